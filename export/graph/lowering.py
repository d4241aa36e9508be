"""A model made ready for a graph: constants folded, and operators in the form that the target takes.

None of this changes what the model computes. Each form is held to the definitional one by a test.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dtfsal.engines.errors import UsageError
from dtfsal.export.graph.fused_attention import FusedAttention, can_fuse
from dtfsal.export.graph.planar_pool import PlanarPool
from dtfsal.training.model.audio import TemporalEnhancement
from dtfsal.training.model.blocks import LTEB, ConvNormAct, Decoder, TemporalConv
from dtfsal.training.model.deform_conv import ModulatedDeformConv2d, deform_conv2d
from dtfsal.training.model.encoders.efficientnet import ConvNorm
from dtfsal.training.model.encoders.mvit import HeadPool, MultiscaleAttention, MultiscaleBlock, attend_fused
from dtfsal.training.model.network import DTFSal

DeformConvForm = Literal["native", "plugin", "gather"]
AttentionForm = Literal["whole", "padded", "chunked", "decomposed", "pooled"]
PoolingForm = Literal["conv3d", "conv2d"]
ProductForm = Literal["standard", "own"]
OneChannelForm = Literal["conv2d", "product"]

# The type that torch.onnx.ops.symbolic gives its attributes.
Attributes = dict[str, int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]]
PLUGIN_DOMAIN = "dtfsal"
# Scores of one chunk: 512 queries against MViTv2-S's 1,345 keys are 2.8 MB in fp32, a last-level cache's size.
QUERIES_PER_CHUNK = 512
# Scores of one node, which ONNX Runtime's kernel holds at once: 268 MB in fp32, where all of block 1's are 925 MB.
SCORES_PER_NODE = 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forms:
    """The operator forms of a graph.

    Attributes:
        deform_conv: `native` is ONNX's DeformConv, `plugin` our own operator, `gather` standard operators only.
        attention: `whole` is one Attention node over all queries; `padded` is one whose values are padded to the
            keys' head dimension, which TensorRT's attention wants; `chunked` splits the queries of a head into groups
            that share its keys and values, as grouped-query attention does; `decomposed` is two matrix products and
            a softmax, for targets without an Attention kernel; `pooled` is our own operator for all between the two
            linear layers, see `dtfsal.export.graph.fused_attention`.
        pooling: MViTv2's pooling of queries, keys and values as the depthwise 3-D convolution that it is, or as 2-D
            convolutions of each frame; see `dtfsal.export.graph.planar_pool`.
        one_channel: convolutions 1x1 to one channel, the decoders' last and the final fusion, as convolutions or as
            matrix products. ONNX Runtime pads a convolution's channels to a vector's width, 16 with AVX-512, and keeps
            them so through the resizing that follows.
        products: `own` are our own operators for linear layers and 3x3 convolutions, see
            `dtfsal.export.graph.own_operators`.
    """

    deform_conv: DeformConvForm
    attention: AttentionForm = "whole"
    pooling: PoolingForm = "conv3d"
    products: ProductForm = "standard"
    one_channel: OneChannelForm = "conv2d"


def lowered(model: DTFSal, forms: Forms) -> DTFSal:
    """A copy of the model in evaluation mode, folded and with the given forms.

    Batch normalisation goes into the convolution before it, token maps and re-arranged decoder weights become
    constants.
    """
    config = model.config
    if config.fusion != "amfb" or config.decoder != "multi":
        raise UsageError(
            f"the model {config.name!r} has the fusion {config.fusion!r} and the decoder {config.decoder!r}, which are "
            "for comparisons in training; engines are built of the paper's own, amfb and multi"
        )
    if config.normalisation != "batch":
        raise UsageError(
            f"the model {config.name!r} has the normalisation {config.normalisation!r}, which is for comparisons in "
            "training; engines are built of models with batch normalisation"
        )
    model = copy.deepcopy(model).eval()
    if forms.attention == "pooled":
        for layer in list(model.modules()):
            if isinstance(layer, MultiscaleBlock) and can_fuse(layer.attn):
                layer.attn = FusedAttention(layer.attn)  # type: ignore[assignment]
    for module in model.modules():
        if isinstance(module, ConvNormAct | ConvNorm):
            _fold_norm(module)
        elif isinstance(module, LTEB):
            module.fold_tokens()
        elif isinstance(module, ModulatedDeformConv2d):
            module.operator = DEFORM_CONV_FORMS[forms.deform_conv]
        elif isinstance(module, MultiscaleAttention):
            module.attend = ATTENTION_FORMS[forms.attention]
        elif isinstance(module, HeadPool) and forms.pooling == "conv2d":
            module.pool = PlanarPool(module.pool)  # type: ignore[assignment]
        elif isinstance(module, TemporalEnhancement) and forms.attention == "decomposed":
            module.attend = _scaled_dot_product
    for decoder in model.decoders:
        assert isinstance(decoder, Decoder)
        left = model.config.times
        for block in decoder.blocks:
            assert isinstance(block, ConvNormAct)
            assert isinstance(block.conv, TemporalConv)
            block.conv.fold(left)
            left = block.conv.output_times(left)
        if forms.one_channel == "product":
            decoder.predict = PointwiseProduct(decoder.predict)  # type: ignore[assignment]
    if forms.one_channel == "product":
        model.final = PointwiseProduct(model.final)  # type: ignore[assignment]
    return model


class PointwiseProduct(torch.nn.Module):
    """A convolution 1x1 to one channel as a product of its weights and the pixels."""

    def __init__(self, conv: torch.nn.Conv2d) -> None:
        super().__init__()
        assert conv.weight.shape[0] == 1
        self.weight = torch.nn.Parameter(conv.weight.detach().flatten(1))  # (1, C)
        assert conv.bias is not None
        self.bias = torch.nn.Parameter(conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 1, h, w)."""
        return (self.weight @ x.flatten(2) + self.bias).unflatten(2, x.shape[2:])


def _fold_norm(block: ConvNormAct | ConvNorm) -> None:
    conv, norm = block.conv, block.norm
    if not isinstance(norm, torch.nn.BatchNorm2d):
        return
    assert isinstance(conv, torch.nn.Conv2d | TemporalConv | ModulatedDeformConv2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = weight, bias
    block.norm = torch.nn.Identity()


def _native_deform_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """ONNX DeformConv, opset 22; see `dtfsal.training.model.deform_conv.deform_conv2d`."""
    attributes: Attributes = {
        "kernel_shape": list(weight.shape[-2:]),
        "strides": [stride, stride],
        "pads": [padding] * 4,
        "dilations": [dilation, dilation],
        "group": 1,
        "offset_group": 1,
    }
    shape = (x.shape[0], weight.shape[0], *offset.shape[-2:])
    return torch.onnx.ops.symbolic(
        "DeformConv", (x, weight, offset, bias, mask), attributes, dtype=x.dtype, shape=shape, version=22
    )


def _plugin_deform_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """The operator dtfsal::DeformConv2d, version 1, of our TensorRT plugin; inputs in the order of ONNX DeformConv.

    The weight has its input channels last, (C', kh, kw, C), so that what the matrix product sums over lies together. An
    absent bias or mask is no input, not an empty one: with four inputs, the rank of the fourth says which it is.
    """
    attributes: Attributes = {
        "plugin_version": "1",
        "plugin_namespace": PLUGIN_DOMAIN,
        "stride": [stride, stride],
        "padding": [padding, padding],
        "dilation": [dilation, dilation],
        "groups": 1,
        "offset_groups": 1,
    }
    shape = (x.shape[0], weight.shape[0], *offset.shape[-2:])
    return torch.onnx.ops.symbolic(
        f"{PLUGIN_DOMAIN}::DeformConv2d",
        [value for value in (x, weight.permute(0, 2, 3, 1), offset, bias, mask) if value is not None],
        attributes,
        dtype=x.dtype,
        shape=shape,
        version=1,
    )


def _attend_whole(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor], coordinates: Tensor) -> Tensor:
    """One Attention node; values keep their own head dimension, which graphs allow."""
    query, key = _with_positions(q, k, biases, coordinates, rows_after=0)
    return F.scaled_dot_product_attention(query, key, v, scale=1.0)


def _attend_chunked(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor], coordinates: Tensor) -> Tensor:
    """Attention nodes whose query heads are chunks of queries that share a head's keys and values.

    ONNX Runtime's CPU kernel parallelises over heads and forms a head's scores as a whole; block 0 of MViTv2-S has one
    head of 86,017 queries. In chunks the same node took 0.34 s instead of 0.98 s there, and block 1 0.77 s instead of
    1.02 s (2 CPU cores, ONNX Runtime 1.32). It holds all scores of a node: memory that is mapped again in the first two
    runs, which took block 1 2.6 s instead of 0.8 s. So a node gets some of the chunks only.
    """
    batch, heads, queries, _ = q.shape
    chunks = math.ceil(queries / QUERIES_PER_CHUNK)
    if chunks == 1:
        return _attend_whole(q, k, v, biases, coordinates)
    chunk = math.ceil(queries / chunks)
    query, key = _with_positions(q, k, biases, coordinates, rows_after=chunks * chunk - queries)
    per_node = max(1, SCORES_PER_NODE // (heads * chunk * k.shape[2]))
    parts = []
    for some in [query] if per_node >= chunks else query.split(per_node * chunk, dim=2):
        some_chunks = some.shape[2] // chunk
        y = F.scaled_dot_product_attention(
            some.reshape(batch, heads * some_chunks, chunk, -1), key, v, scale=1.0, enable_gqa=some_chunks > 1
        )
        parts.append(y.reshape(batch, heads, some_chunks * chunk, -1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2))[:, :, :queries]


def _attend_decomposed(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor], coordinates: Tensor) -> Tensor:
    """Two matrix products and a softmax."""
    query, key = _with_positions(q, k, biases, coordinates, rows_after=0)
    return (query @ key.transpose(2, 3)).softmax(dim=-1) @ v


def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """F.scaled_dot_product_attention in matrix products and a softmax."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(dim=-1) @ v


def _with_positions(
    q: Tensor, k: Tensor, biases: Sequence[Tensor], coordinates: Tensor, *, rows_after: int
) -> tuple[Tensor, Tensor]:
    """Queries and keys with the relative positions appended, and `rows_after` zero queries at the end."""
    bias = torch.cat(list(biases), dim=-1)
    bias = F.pad(bias, (0, coordinates.shape[1] - bias.shape[-1], 1, rows_after))
    query = torch.cat((F.pad(q, (0, 0, 0, rows_after)) if rows_after else q, bias), dim=-1)
    return query, torch.cat((k, coordinates.expand(*k.shape[:2], -1, -1)), dim=-1)


DEFORM_CONV_FORMS: dict[DeformConvForm, Callable[..., Tensor]] = {
    "native": _native_deform_conv,
    "plugin": _plugin_deform_conv,
    "gather": deform_conv2d,
}
ATTENTION_FORMS: dict[AttentionForm, Callable[..., Tensor]] = {
    "whole": _attend_whole,
    "padded": attend_fused,
    "chunked": _attend_chunked,
    "decomposed": _attend_decomposed,
    "pooled": _attend_chunked,  # of heads that the operator does not take
}
