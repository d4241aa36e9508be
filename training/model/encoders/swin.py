"""Video Swin Transformer (Liu et al., CVPR 2022) as a pyramid: Table 9's second encoder, Video Swin-S by default.

Attention within windows of tokens that every second block shifts. Parameters have torchvision's names (`swin3d_s`), so
its Kinetics-400 weights load.
"""

import functools
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.config import SwinConfig
from dtfsal.training.model.encoders.base import PyramidEncoder
from dtfsal.training.model.precision import with_precision

Triple = tuple[int, int, int]


class VideoSwin(PyramidEncoder):
    """See the module.

    Args:
        config: widths and depths.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        widths = tuple(config.width * 2**stage for stage in range(len(config.depths)))
        self.channels = widths
        self.patch_embed = PatchEmbedding(widths[0], config.patch)
        layers: list[nn.Module] = []
        for stage, depth in enumerate(config.depths):
            if stage:
                layers.append(PatchMerging(widths[stage - 1]))
            layers.append(
                nn.Sequential(
                    *(
                        SwinBlock(widths[stage], config.heads[stage], config.window, shifted=bool(index % 2))
                        for index in range(depth)
                    )
                )
            )
        self.features = nn.Sequential(*layers)  # stages at even places, mergings at odd ones
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, video: Tensor) -> list[Tensor]:
        """See `PyramidEncoder.forward`."""
        x = self.patch_embed(video)  # (B, T', h, w, C)
        levels = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index % 2 == 0:
                last = index == len(self.features) - 1
                levels.append((self.norm(x) if last else x).permute(0, 4, 1, 2, 3))
        return levels


class PatchEmbedding(nn.Module):
    """Patches of 2x4x4 pixels to tokens."""

    def __init__(self, width: int, patch: Triple) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T', h, w, C)."""
        return self.norm(self.proj(video).permute(0, 2, 3, 4, 1))


class PatchMerging(nn.Module):
    """Four neighbouring tokens of a frame to one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T', h, w, C) -> (B, T', h / 2, w / 2, 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = (x[:, :, 0::2, 0::2], x[:, :, 1::2, 0::2], x[:, :, 0::2, 1::2], x[:, :, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class SwinBlock(nn.Module):
    """Window attention and an MLP, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int, window: Triple, *, shifted: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window, shifted=shifted)
        self.norm2 = nn.LayerNorm(width)
        # Places 2 and 4 are dropout in torchvision, which makes these 0 and 3.
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width), nn.Identity()
        )
        with_precision(self.mlp[3], int8=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T', h, w, C) -> (B, T', h, w, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learned bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: Triple, *, shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.qkv = with_precision(nn.Linear(width, 3 * width), int8=False)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(math.prod(2 * n - 1 for n in window), heads))
        self.register_buffer("relative_position_index", relative_index(window).flatten())
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T', h, w, C) -> (B, T', h, w, C)."""
        sizes = (x.shape[1], x.shape[2], x.shape[3])
        # A window larger than the clip is cut to it, and not shifted along that axis.
        window = _three(min(n, size) for n, size in zip(self.window, sizes, strict=True))
        shift = _three(n // 2 if self.shifted and size > n else 0 for n, size in zip(self.window, sizes, strict=True))
        padding = _three(-size % n for n, size in zip(window, sizes, strict=True))
        x = F.pad(x, (0, 0, 0, padding[2], 0, padding[1], 0, padding[0]))
        padded = _three(size + more for size, more in zip(sizes, padding, strict=True))
        if any(shift):
            x = torch.roll(x, [-step for step in shift], (1, 2, 3))
        tokens = _windows(x, window)  # (B * n, N, C)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self._bias(window)  # (heads, N, N)
        if any(shift):
            mask = shift_mask(padded, window, shift).to(x)  # (n, N, N)
            bias = (bias + mask[:, None]).repeat(x.shape[0], 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype).expand(len(q), -1, -1, -1))
        y = _together(self.proj(y.transpose(1, 2).flatten(2)), x.shape[0], padded, window)
        if any(shift):
            y = torch.roll(y, shift, (1, 2, 3))
        return y[:, : sizes[0], : sizes[1], : sizes[2]]

    def _bias(self, window: Triple) -> Tensor:
        whole = math.prod(self.window)
        count = math.prod(window)
        # torchvision takes the first N x N of the whole window's index for a smaller one, and so its weights expect it.
        index = self.relative_position_index.view(whole, whole)[:count, :count]
        return self.relative_position_bias_table[index].permute(2, 0, 1)


def relative_index(window: Triple) -> Tensor:
    """(N, N) rows of the bias table for each pair of a window's tokens."""
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in window), indexing="ij")).flatten(1)  # (3, N)
    distance = places[:, :, None] - places[:, None, :] + torch.tensor(window)[:, None, None] - 1
    return (distance[0] * (2 * window[1] - 1) + distance[1]) * (2 * window[2] - 1) + distance[2]


@functools.lru_cache(maxsize=32)
def shift_mask(sizes: Triple, window: Triple, shift: Triple) -> Tensor:
    """(n, N, N): -100 between tokens of a window that the shift brought together from opposite ends, else 0."""
    region = torch.zeros(sizes)
    for axis, (size, n, step) in enumerate(zip(sizes, window, shift, strict=True)):
        if step:
            place = torch.arange(size)
            part = (place >= size - n).int() + (place >= size - step).int()
            region += part.view([-1 if a == axis else 1 for a in range(3)]) * 3.0**axis
    parts = _windows(region[None, ..., None], window).squeeze(2)  # (n, N)
    return torch.where(parts[:, None] == parts[:, :, None], 0.0, -100.0)


def _windows(x: Tensor, window: Triple) -> Tensor:
    """(B, T, h, w, C) -> (B * n, N, C)."""
    x = x.unflatten(3, (-1, window[2])).unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)


def _together(x: Tensor, batch: int, sizes: Triple, window: Triple) -> Tensor:
    """(B * n, N, C) -> (B, T, h, w, C)."""
    counts = [size // n for size, n in zip(sizes, window, strict=True)]
    x = x.unflatten(1, window).unflatten(0, (batch, *counts))
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def _three(values: Iterable[int]) -> Triple:
    a, b, c = values
    return a, b, c
