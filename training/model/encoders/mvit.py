"""MViTv2, the visual encoder, as a pyramid of four levels (paper, section 3.1 and eq. 1; Li et al. 2022).

Parameter names and shapes are torchvision's `mvit_v2_s`, so its Kinetics-400 weights load with no renaming. The
arithmetic differs in one exact rewrite. MViTv2 adds decomposed relative positions to the attention scores,

    scores[i, j] = q_i k_j / sqrt(d) + b_t[i, t(j)] + b_h[i, h(j)] + b_w[i, w(j)],      b_*[i, .] = q_i R_*,

and forming that bias costs a tensor as large as the scores (115 million values in block 0 of MViTv2-S). With the
one-hot rows 1_* of a key's coordinates it is an inner product,

    scores = [q / sqrt(d), b_t, b_h, b_w] [k, 1_t, 1_h, 1_w]^T,

so attention stays one fused call, in PyTorch and in every exporter's graph.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.config import PYRAMID_STRIDES, TEMPORAL_STRIDE, MViTConfig
from dtfsal.training.model.encoders.base import PyramidEncoder
from dtfsal.training.model.precision import with_precision

Grid = tuple[int, int, int]  # token times, rows, columns

# Fused attention kernels want head dimensions that are multiples of 8.
HEAD_DIM_MULTIPLE = 8


class MViT(PyramidEncoder):
    """MViTv2 for clips of one nominal size; other sizes work, their position tables are interpolated."""

    def __init__(self, config: MViTConfig, *, frames: int, height: int, width: int) -> None:
        super().__init__()
        self.channels = config.widths
        self.conv_proj = nn.Conv3d(3, config.widths[0], (3, 7, 7), stride=(2, 4, 4), padding=(1, 3, 3))
        self.pos_encoding = ClassToken(config.widths[0])

        grid = (frames // TEMPORAL_STRIDE, height // PYRAMID_STRIDES[0], width // PYRAMID_STRIDES[0])
        blocks: list[MultiscaleBlock] = []
        self.last_blocks: list[int] = []  # index of each stage's last block
        channels = config.widths[0]
        for stage, (stage_width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            kv_stride = max(config.first_kv_stride >> stage, 1)
            for index in range(depth):
                q_stride = 2 if stage > 0 and index == 0 else 1
                block = MultiscaleBlock(channels, stage_width, q_stride, kv_stride, grid, config)
                blocks.append(block)
                grid = (grid[0], grid[1] // q_stride, grid[2] // q_stride)
                channels = stage_width
            self.last_blocks.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.apply(_initialise)

    def forward(self, video: Tensor) -> list[Tensor]:
        """The pyramid F_1^E..F_4^E of eq. 1, class token dropped.

        Args:
            video: (B, 3, T, H, W), normalised; T even, H and W multiples of 32.

        Returns:
            Four tensors (B, C_i, T/2, H/2^(i+1), W/2^(i+1)).
        """
        x = self.conv_proj(video)  # (B, C, T/2, H/4, W/4)
        grid: Grid = (x.shape[2], x.shape[3], x.shape[4])
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))  # (B, C, T, H, W) -> (B, 1 + T*H*W, C)
        pyramid = []
        for index, block in enumerate(self.blocks):
            x, grid = block(x, grid)
            if index in self.last_blocks:
                level = self.norm(x) if index == len(self.blocks) - 1 else x
                pyramid.append(level[:, 1:].transpose(1, 2).unflatten(2, grid))  # -> (B, C, T, H, W)
        return pyramid


def _initialise(module: nn.Module) -> None:
    """MViTv2's initialisation: truncated normals of 0.02 for linear layers, position tables and the class token."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    for name, parameter in module.named_parameters(recurse=False):
        if name.startswith("rel_pos_") or name == "class_token":
            nn.init.trunc_normal_(parameter, std=0.02)


class ClassToken(nn.Module):
    """Puts the learned class token before the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, 1 + N, C)."""
        return torch.cat((self.class_token.expand(x.shape[0], 1, -1), x), dim=1)


class MultiscaleBlock(nn.Module):
    """A pre-norm Transformer block whose attention pools; its attention, not its MLP, changes the width."""

    def __init__(
        self, dim_in: int, dim_out: int, q_stride: int, kv_stride: int, grid: Grid, config: MViTConfig
    ) -> None:
        super().__init__()
        hidden = int(dim_out * config.mlp_ratio)
        self.norm1 = nn.LayerNorm(dim_in, eps=1e-6)
        self.attn = MultiscaleAttention(dim_in, dim_out, config.head_dim, q_stride, kv_stride, grid)
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        # Indices 0 and 3 hold the linear layers: torchvision's MLP has dropout at 2 and 4.
        self.mlp = nn.Sequential(nn.Linear(dim_out, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim_out))
        with_precision(self.mlp[3], int8=False)
        self.project = with_precision(nn.Linear(dim_in, dim_out), int8=False) if dim_in != dim_out else None
        self.pool_skip = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if q_stride == 2 else None

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, 1 + T*H*W, C_in) on `grid` -> (B, 1 + T*H'*W', C_out) and its grid."""
        y = self.norm1(x)
        attended, q_grid = self.attn(y, grid)
        skip = x if self.project is None else self.project(y)
        if self.pool_skip is not None:
            patches = skip[:, 1:].transpose(1, 2).unflatten(2, grid)  # (B, N, C) -> (B, C, T, H, W)
            patches = self.pool_skip(patches).flatten(2).transpose(1, 2)
            skip = torch.cat((skip[:, :1], patches), dim=1)
        x = skip + attended
        return x + self.mlp(self.norm2(x)), q_grid


class MultiscaleAttention(nn.Module):
    """Pooling attention with decomposed relative positions and residual pooling.

    `attend` is the point where the benchmarks' definitional form is put in place of the fused one.
    """

    key_coordinates: Tensor
    index_t: Tensor
    index_h: Tensor
    index_w: Tensor

    def __init__(self, dim_in: int, dim_out: int, head_dim: int, q_stride: int, kv_stride: int, grid: Grid) -> None:
        super().__init__()
        self.heads, self.head_dim = dim_out // head_dim, head_dim
        self.qkv = with_precision(nn.Linear(dim_in, 3 * dim_out), int8=False)
        self.project = with_precision(nn.Sequential(nn.Linear(dim_out, dim_out)), int8=False)
        self.pool_q = HeadPool(head_dim, q_stride)
        self.pool_k = HeadPool(head_dim, kv_stride)
        self.pool_v = HeadPool(head_dim, kv_stride)
        q_grid, k_grid = self.pool_q.output_grid(grid), self.pool_k.output_grid(grid)
        self.nominal_grids = (q_grid, k_grid)
        lengths = [2 * max(q, k) - 1 for q, k in zip(q_grid, k_grid, strict=True)]
        self.rel_pos_t = nn.Parameter(torch.zeros(lengths[0], head_dim))
        self.rel_pos_h = nn.Parameter(torch.zeros(lengths[1], head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(lengths[2], head_dim))
        # Constants of the nominal size, so that a graph of it holds no index arithmetic.
        self.register_buffer("key_coordinates", key_coordinates(k_grid), persistent=False)
        for axis, q, k in zip("thw", q_grid, k_grid, strict=True):
            self.register_buffer(f"index_{axis}", relative_index(q, k), persistent=False)
        self.attend = attend_fused

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Attention over tokens.

        Args:
            x: (B, 1 + T*H*W, C_in), class token first.
            grid: (T, H, W) of the tokens.

        Returns:
            (B, 1 + T*H'*W', C_out) and the pooled grid (T, H', W').
        """
        # (B, N, 3*heads*d) -> 3 x (B, heads, N, d)
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        q, q_grid = self.pool_q(q, grid)
        k, k_grid = self.pool_k(k, grid)
        v, _ = self.pool_v(v, grid)

        biases, coordinates = self.relative_biases(q, q_grid, k_grid)
        y = self.attend(q * self.head_dim**-0.5, k, v, biases, coordinates)
        y = torch.cat((y[:, :, :1], y[:, :, 1:] + q[:, :, 1:]), dim=2)  # residual pooling, not for the class token
        y = y.transpose(1, 2).flatten(2)  # (B, heads, N, d) -> (B, N, heads*d)
        return self.project(y), q_grid

    def relative_biases(self, q: Tensor, q_grid: Grid, k_grid: Grid) -> tuple[list[Tensor], Tensor]:
        """b_t, b_h, b_w of the patch queries, (B, heads, Nq, k_t | k_h | k_w), and the keys' one-hot coordinates."""
        if (q_grid, k_grid) == self.nominal_grids:
            indices, coordinates = [self.index_t, self.index_h, self.index_w], self.key_coordinates
        else:
            sizes = zip(q_grid, k_grid, strict=True)
            indices = [relative_index(a, b).to(q.device) for a, b in sizes]
            coordinates = key_coordinates(k_grid).to(q)
        tables = [
            resize_table(table, 2 * max(a, b) - 1)[index]  # (q, k, d)
            for table, index, a, b in zip(
                (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w), indices, q_grid, k_grid, strict=True
            )
        ]
        table_t, table_h, table_w = (table.transpose(1, 2) for table in tables)  # (q, d, k)
        patches = q[:, :, 1:].unflatten(2, q_grid)  # (B, heads, T, H, W, d)
        bias_t = patches.flatten(3, 4) @ table_t  # (B, heads, T, H*W, k_t)
        bias_h = patches @ table_h  # (B, heads, T, H, W, k_h)
        bias_w = (patches.transpose(3, 4) @ table_w).transpose(3, 4)  # (B, heads, T, H, W, k_w)
        return [bias_t.flatten(2, 3), bias_h.flatten(2, 4), bias_w.flatten(2, 4)], coordinates


def attend_fused(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor], coordinates: Tensor) -> Tensor:
    """softmax(q k^T + bias) v with the bias as part of the inner product.

    Args:
        q: (B, heads, 1 + Nq, d), scaled by 1 / sqrt(d).
        k: (B, heads, 1 + Nk, d).
        v: (B, heads, 1 + Nk, d).
        biases: b_t, b_h, b_w, each (B, heads, Nq, sizes of the key grid).
        coordinates: (1 + Nk, P) one-hot coordinates of the keys, P >= k_t + k_h + k_w; see `key_coordinates`.

    Returns:
        (B, heads, 1 + Nq, d).
    """
    bias = torch.cat(list(biases), dim=-1)
    bias = F.pad(bias, (0, coordinates.shape[1] - bias.shape[-1], 1, 0))  # a zero row for the class token
    query = torch.cat((q, bias), dim=-1)
    key = torch.cat((k, coordinates.expand(*k.shape[:2], -1, -1)), dim=-1)
    # PyTorch's fused kernels want one head dimension for all three: on 2 CPU cores 8.6 s against 15.7 s for DTFSal(V).
    value = F.pad(v, (0, query.shape[-1] - v.shape[-1]))
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., : v.shape[-1]]


class HeadPool(nn.Module):
    """Depthwise 3x3x3 convolution over each head's tokens, then LayerNorm; the class token is only normalised."""

    def __init__(self, head_dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.pool = nn.Conv3d(head_dim, head_dim, 3, (1, stride, stride), 1, groups=head_dim, bias=False)
        self.norm_act = nn.Sequential(nn.LayerNorm(head_dim, eps=1e-6))

    def output_grid(self, grid: Grid) -> Grid:
        """The grid that `forward` makes of `grid`."""
        return (grid[0], (grid[1] - 1) // self.stride + 1, (grid[2] - 1) // self.stride + 1)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, heads, 1 + T*H*W, d) on `grid` -> (B, heads, 1 + T*H'*W', d) and its grid."""
        batch, heads = x.shape[:2]
        patches = x[:, :, 1:].flatten(0, 1).transpose(1, 2).unflatten(2, grid)  # -> (B*heads, d, T, H, W)
        patches = self.pool(patches).flatten(2).transpose(1, 2).unflatten(0, (batch, heads))
        return self.norm_act(torch.cat((x[:, :, :1], patches), dim=2)), self.output_grid(grid)


def relative_index(q_size: int, k_size: int) -> Tensor:
    """(q_size, k_size) rows of a relative position table of length 2 max(q_size, k_size) - 1, along one axis.

    Coordinates of the coarser side are scaled to the finer one's, as MViTv2 defines the distance of pooled tokens.
    """
    q_scale, k_scale = max(k_size / q_size, 1.0), max(q_size / k_size, 1.0)
    distance = torch.arange(q_size)[:, None] * q_scale - (torch.arange(k_size)[None, :] + (1.0 - k_size)) * k_scale
    return distance.long()


def key_coordinates(grid: Grid) -> Tensor:
    """(1 + T*H*W, P) one-hot rows [1_t, 1_h, 1_w] of a key grid, a zero row for the class token first.

    P is T + H + W rounded up with zero columns so that the head dimension stays a multiple of 8.
    """
    t, h, w = grid
    rows = torch.cat(
        (
            torch.eye(t)[:, None, None].expand(t, h, w, t),
            torch.eye(h)[None, :, None].expand(t, h, w, h),
            torch.eye(w)[None, None, :].expand(t, h, w, w),
        ),
        dim=-1,
    ).flatten(0, 2)
    columns = math.ceil((t + h + w) / HEAD_DIM_MULTIPLE) * HEAD_DIM_MULTIPLE
    return F.pad(rows, (0, columns - rows.shape[1], 1, 0))


def resize_table(table: Tensor, length: int) -> Tensor:
    """A relative position table (L, d) interpolated linearly to (length, d), as MViTv2 does for another input size."""
    if table.shape[0] == length:
        return table
    return F.interpolate(table.t()[None], size=length, mode="linear")[0].t()
