"""The sound encoder: VGGish's convolutions and temporal enhancement (paper, section 3.1; Hershey et al. 2017)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.config import AudioBranchConfig


class AudioBranch(nn.Module):
    """Log-mel slices to features on the grid of the video's last level and its token times."""

    resample: Tensor

    def __init__(
        self, config: AudioBranchConfig, *, slices: int, times: int, width: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.vggish = VGGish(config.widths)
        self.enhance = TemporalEnhancement(config, slices=slices, width=width)
        self.pool = PositionPool(width, grid) if config.readout == "pooled" else None
        self.register_buffer("resample", resample_matrix(slices, times), persistent=False)

    def forward(self, slice_features: Tensor, times: int) -> Tensor:
        """What a window hears, at the token times of its video.

        Args:
            slice_features: (B, S, C, h, w), what `encode_slices` gave for the window's slices.
            times: T', the token times of the video features.

        Returns:
            (B*T', C*, h, w), times folded into the batch.
        """
        features = self.enhance(slice_features)  # (B, S, C*, h, w)
        size = features.shape[2:]
        if self.pool is not None:
            features = self.pool(features)  # (B, S, C*, 1, 1)
        matrix = self.resample
        if matrix.shape != (times, features.shape[1]):
            matrix = resample_matrix(features.shape[1], times)
        resampled = matrix.to(features) @ features.flatten(2)  # (T', S) @ (B, S, C*h*w)
        return resampled.reshape(-1, *features.shape[2:]).expand(-1, *size)  # (B*T', C, h, w)

    def encode_slices(self, slices: Tensor) -> Tensor:
        """VGGish features of slices alone, (N, 1, h, w) -> (N, 512, h/16, w/16): what neighbouring windows share."""
        return self.vggish(slices)


class PositionPool(nn.Module):
    """Each channel's weighted sum over a slice's positions, whose rows are time within the slice and columns pitch.

    A sound has no place in the picture, so nothing says that a loud moment concerns the rows of the frame at which it
    happens to lie in the spectrogram. The weights start as the mean.
    """

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width, *grid), 1 / (grid[0] * grid[1])))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C*, h, w) -> (B, S, C*, 1, 1)."""
        weight, size = self.weight, x.shape[-2:]
        if weight.shape[-2:] != size:
            area = weight.shape[1] * weight.shape[2] / (size[0] * size[1])
            weight = area * F.interpolate(weight[None], size=size, mode="bilinear", align_corners=False)[0]
        return (x * weight).sum(dim=(3, 4), keepdim=True)


class VGGish(nn.Module):
    """VGGish without its fully connected layers; the names are those of its AudioSet weights in PyTorch."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for index, width in enumerate(widths):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            if index in (0, 1, 3, 5):
                layers.append(nn.MaxPool2d(2, 2))
            channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, h, w) -> (N, C, h/16, w/16)."""
        return self.features(x)


class TemporalEnhancement(nn.Module):
    """Patch embedding, a learned embedding of the slice's time, and one pre-norm Transformer layer over all tokens.

    `attend` is scaled dot-product attention; exporters without such an operator replace it.
    """

    def __init__(self, config: AudioBranchConfig, *, slices: int, width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.embed = nn.Conv2d(config.widths[-1], width, 1)
        self.time = nn.Parameter(torch.zeros(slices, width))
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        hidden = int(width * config.mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.attend: Callable[[Tensor, Tensor, Tensor], Tensor] = F.scaled_dot_product_attention
        nn.init.trunc_normal_(self.time, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C, h, w) -> (B, S, C*, h, w)."""
        batch, slices, _, height, width = x.shape
        x = self.embed(x.flatten(0, 1)).flatten(2).transpose(1, 2)  # -> (B*S, h*w, C*)
        x = x.unflatten(0, (batch, slices)) + self.time[:, None]
        x = x.flatten(1, 2)  # (B, S*h*w, C*)
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = self.attend(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.project(attended)
        x = x + self.mlp(self.norm2(x))
        x = x.unflatten(1, (slices, height * width)).transpose(2, 3)  # -> (B, S, C*, h*w)
        return x.unflatten(3, (height, width))


def resample_matrix(slices: int, times: int) -> Tensor:
    """(times, slices) matrix of linear resampling along time, half-pixel centres, ends held."""
    return F.interpolate(torch.eye(slices)[None], size=times, mode="linear", align_corners=False)[0].t().contiguous()
