"""MViTv2 against a transcription of its definition in float64, and against torchvision's where that loads."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from dtfsal.training.model.config import MViTConfig
from dtfsal.training.model.encoders.mvit import MViT, key_coordinates, relative_index, resize_table

SMALL = MViTConfig(widths=(8, 16, 32, 64), depths=(1, 2, 1, 1), head_dim=8)


def randomised(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.5 if "rel_pos" in name or "class_token" in name else 0.2
            shift = 1.0 if ("norm" in name and name.endswith("weight")) else 0.0
            parameter.copy_(shift + scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def by_definition(state, config, video):
    """The MViTv2 paper in float64: explicit distances, explicit scores, head by head."""

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def pool(name, x, grid, stride):  # x: (1 + N, d) of one head
        patches = x[1:].T.reshape(1, -1, *grid)
        patches = F.conv3d(patches, state[f"{name}.pool.weight"], None, (1, stride, stride), 1, 1, patches.shape[1])
        new_grid = tuple(patches.shape[2:])
        return norm(f"{name}.norm_act.0", torch.cat((x[:1], patches.reshape(x.shape[1], -1).T))), new_grid

    def relative(table, q_size, k_size):
        """R[i, j] for query i and key j on one axis; positions are compared on the finer grid."""
        fine = max(q_size, k_size)
        assert table.shape[0] == 2 * fine - 1
        rows = torch.empty(q_size, k_size, table.shape[1], dtype=table.dtype)
        for i, j in itertools.product(range(q_size), range(k_size)):
            distance = int(i * (fine / q_size) - j * (fine / k_size) + (k_size - 1) * (fine / k_size))
            rows[i, j] = table[distance]
        return rows

    x = F.conv3d(video, state["conv_proj.weight"], state["conv_proj.bias"], (2, 4, 4), (1, 3, 3))
    grid = tuple(x.shape[2:])
    x = x[0].flatten(1).T
    x = torch.cat((state["pos_encoding.class_token"][None], x))
    pyramid, number = [], 0
    for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
        for index in range(depth):
            block = f"blocks.{number}"
            q_stride = 2 if stage and not index else 1
            kv_stride = config.first_kv_stride >> stage or 1
            y = norm(f"{block}.norm1", x)
            heads = width // config.head_dim
            qkv = linear(f"{block}.attn.qkv", y).reshape(len(y), 3, heads, config.head_dim)
            outputs = []
            for head in range(heads):
                q, q_grid = pool(f"{block}.attn.pool_q", qkv[:, 0, head], grid, q_stride)
                k, k_grid = pool(f"{block}.attn.pool_k", qkv[:, 1, head], grid, kv_stride)
                v, _ = pool(f"{block}.attn.pool_v", qkv[:, 2, head], grid, kv_stride)
                scores = q @ k.T / config.head_dim**0.5
                tables = [
                    relative(state[f"{block}.attn.rel_pos_{axis}"], a, b)
                    for axis, a, b in zip("thw", q_grid, k_grid, strict=True)
                ]
                places_q = list(itertools.product(*map(range, q_grid)))
                places_k = list(itertools.product(*map(range, k_grid)))
                for axis in range(3):
                    rows = tables[axis][[p[axis] for p in places_q]][:, [p[axis] for p in places_k]]  # (Nq, Nk, d)
                    scores[1:, 1:] += torch.einsum("id,ijd->ij", q[1:], rows)
                attended = scores.softmax(-1) @ v
                attended[1:] += q[1:]
                outputs.append(attended)
            attended = linear(f"{block}.attn.project.0", torch.cat(outputs, 1))
            skip = linear(f"{block}.project", y) if f"{block}.project.weight" in state else x
            if q_stride == 2:
                patches = F.max_pool3d(skip[1:].T.reshape(1, -1, *grid), (1, 3, 3), (1, 2, 2), (0, 1, 1))
                skip = torch.cat((skip[:1], patches.flatten(2)[0].T))
            grid = q_grid
            x = skip + attended
            x = x + linear(f"{block}.mlp.3", F.gelu(linear(f"{block}.mlp.0", norm(f"{block}.norm2", x))))
            number += 1
        out = norm("norm", x) if stage == 3 else x
        pyramid.append(out[1:].T.reshape(1, width, *grid))
    return pyramid


@pytest.mark.parametrize("size", [(4, 32, 64), (6, 64, 32)])
def test_equals_the_definition(size):
    frames, height, width = size
    model = randomised(MViT(SMALL, frames=frames, height=height, width=width)).double()
    video = torch.randn(1, 3, frames, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = by_definition(model.state_dict(), SMALL, video)
        for ours, theirs in zip(model(video), expected, strict=True):
            # Two float64 orders of the same sums through five blocks.
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        # And in float32, as it is used: 24 bits of mantissa through five blocks.
        for ours, theirs in zip(model.float()(video.float()), expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_equals_torchvision():
    try:
        from torchvision.models.video import mvit_v2_s
    except (ImportError, RuntimeError) as error:  # beside a CPU build of torch its operators do not register
        pytest.skip(f"torchvision does not load: {error}")
    theirs = mvit_v2_s(weights=None).eval()
    ours = MViT(MViTConfig(), frames=16, height=224, width=224)
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if not name.startswith("head.")})
    video = torch.randn(1, 3, 16, 224, 224)
    with torch.no_grad():
        seen = {}
        theirs.norm.register_forward_hook(lambda _module, _inputs, output: seen.update(last=output))
        theirs(video)
        expected = seen["last"][:, 1:].transpose(1, 2).unflatten(2, (8, 7, 7))
        torch.testing.assert_close(ours(video)[-1], expected, rtol=1e-5, atol=1e-5)


def test_names_and_shapes_are_torchvisions():
    """The state dict of torchvision's `mvit_v2_s` (16x224x224) by the rule of its definition."""
    expected = {
        "conv_proj.weight": (96, 3, 3, 7, 7),
        "conv_proj.bias": (96,),
        "pos_encoding.class_token": (96,),
        "norm.weight": (768,),
        "norm.bias": (768,),
    }
    widths = [96, 192, 192, *[384] * 11, 768, 768]
    inputs = [96, *widths[:-1]]
    resolution = [56, 56, 28, 28, *[14] * 10, 14, 7]  # of a block's input
    q_strides = [1, 2, 1, 2, *[1] * 10, 2, 1]
    kv_strides = [8, 4, 4, *[2] * 11, 1, 1]
    for index, (width, before) in enumerate(zip(widths, inputs, strict=True)):
        block = f"blocks.{index}"
        sizes = [resolution[index] // stride for stride in (q_strides[index], kv_strides[index])]
        expected |= {
            f"{block}.norm1.weight": (before,),
            f"{block}.norm1.bias": (before,),
            f"{block}.norm2.weight": (width,),
            f"{block}.norm2.bias": (width,),
            f"{block}.attn.qkv.weight": (3 * width, before),
            f"{block}.attn.qkv.bias": (3 * width,),
            f"{block}.attn.project.0.weight": (width, width),
            f"{block}.attn.project.0.bias": (width,),
            f"{block}.attn.rel_pos_h": (2 * max(sizes) - 1, 96),
            f"{block}.attn.rel_pos_w": (2 * max(sizes) - 1, 96),
            f"{block}.attn.rel_pos_t": (15, 96),
            f"{block}.mlp.0.weight": (4 * width, width),
            f"{block}.mlp.0.bias": (4 * width,),
            f"{block}.mlp.3.weight": (width, 4 * width),
            f"{block}.mlp.3.bias": (width,),
        }
        for part in "qkv":
            expected[f"{block}.attn.pool_{part}.pool.weight"] = (96, 1, 3, 3, 3)
            expected[f"{block}.attn.pool_{part}.norm_act.0.weight"] = (96,)
            expected[f"{block}.attn.pool_{part}.norm_act.0.bias"] = (96,)
        if width != before:
            expected |= {f"{block}.project.weight": (width, before), f"{block}.project.bias": (width,)}
    with torch.device("meta"):
        model = MViT(MViTConfig(), frames=16, height=224, width=224)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


def test_pyramid_shapes_of_equation_1():
    with torch.device("meta"):
        pyramid = MViT(MViTConfig(), frames=32, height=224, width=384)(torch.empty(2, 3, 32, 224, 384))
    shapes = [(2, 96, 16, 56, 96), (2, 192, 16, 28, 48), (2, 384, 16, 14, 24), (2, 768, 16, 7, 12)]
    assert [tuple(level.shape) for level in pyramid] == shapes


def test_another_size_than_the_nominal_one_interpolates_the_tables():
    small = randomised(MViT(SMALL, frames=4, height=32, width=64)).double()
    large = MViT(SMALL, frames=8, height=64, width=96).double()
    state = small.state_dict()
    for name, value in large.state_dict().items():
        if ".rel_pos_" in name:
            state[name] = resize_table(state[name], value.shape[0])
    large.load_state_dict(state)
    video = torch.randn(1, 3, 8, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for a, b in zip(small(video), large(video), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("q", "k"), [(1, 1), (4, 4), (8, 2), (2, 8), (56, 7), (7, 14)])
def test_relative_index_stays_in_its_table(q, k):
    index = relative_index(q, k)
    assert index.shape == (q, k)
    assert index.min() >= 0
    assert index.max() <= 2 * max(q, k) - 2
    assert (index[1:] > index[:-1]).all()
    assert (index[:, 1:] < index[:, :-1]).all()


def test_key_coordinates_are_one_hot_and_the_class_token_has_none():
    rows = key_coordinates((2, 3, 4))
    assert rows.shape == (1 + 24, 16)
    assert rows[0].sum() == 0
    assert (rows[1:].sum(1) == 3).all()
    assert rows[:, 9:].sum() == 0  # padding to a multiple of 8
    place = 1 + (1 * 3 + 2) * 4 + 3  # (t, h, w) = (1, 2, 3)
    assert rows[place].nonzero().flatten().tolist() == [1, 2 + 2, 2 + 3 + 3]
