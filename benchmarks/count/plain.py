"""The model as its definitions are written: the baseline that the exact rewrites are checked and measured against."""

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from dtfsal.training.model.blocks import LTEB, TemporalConv, upsample
from dtfsal.training.model.encoders.mvit import MultiscaleAttention
from dtfsal.training.model.network import DTFSal


def plain(model: DTFSal) -> DTFSal:
    """A copy with each rewritten part in its definitional form; the weights are the same.

    - Attention forms its scores and adds the relative position bias to them, as ordinary MViTv2 code does.
    - The token path mixes the tokens of each time, then interpolates and convolves each mixture (eq. 6-7).
    - The decoders' convolutions are three-dimensional.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, MultiscaleAttention):
            module.attend = attend_with_bias
        elif isinstance(module, LTEB):
            module.tokens_for = token_map_per_time
        elif isinstance(module, TemporalConv):
            module.operator = convolve_in_3d
    return model


def attend_with_bias(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor], coordinates: Tensor) -> Tensor:
    """softmax(q k^T + bias) v, the bias a tensor of the scores' size; arguments as `attend_fused`."""
    del coordinates
    bias_t, bias_h, bias_w = biases  # (B, heads, Nq, k_t | k_h | k_w)
    scores = q @ k.transpose(2, 3)
    bias = bias_t[..., :, None, None] + bias_h[..., None, :, None] + bias_w[..., None, None, :]
    scores = scores + F.pad(bias.flatten(3), (1, 0, 1, 0))  # none for the class token
    return scores.softmax(dim=-1) @ v


def token_map_per_time(block: LTEB, weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """P'' by eq. 6-7: weights (N, tokens) -> (N, C*, h, w)."""
    mixture = (weights @ block.tokens.flatten(1)).unflatten(1, block.tokens.shape[1:])
    token_map: Tensor = block.token_conv(upsample(mixture, grid))
    return token_map


def convolve_in_3d(conv: TemporalConv, x: Tensor, times: int) -> Tensor:
    """The Conv3d 3x3x3 that a `TemporalConv` is: (B*times, C, h, w) -> (B*output_times, C', h, w)."""
    clip = x.unflatten(0, (-1, times)).transpose(1, 2)  # (B, C, times, h, w)
    read = clip[:, :, conv.first_time(times) :]
    y = F.conv3d(read, conv.weight, conv.bias, stride=(conv.STRIDE, 1, 1), padding=(conv.padding(times), 1, 1))
    return y.transpose(1, 2).flatten(0, 1)
