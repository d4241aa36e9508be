"""The sound encoder: VGGish's convolutions and temporal enhancement (paper, section 3.1; Hershey et al. 2017)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.training.model.config import AudioBranchConfig
from dtfsal.training.model.precision import EnginePrecision, with_precision

SLICE_STRIDE = 16  # of VGGish's features, in rows and columns of a slice


class AudioBranch(nn.Module):
    """Log-mel slices to features on the grid of the video's last level and its token times."""

    resample: Tensor

    def __init__(self, config: AudioBranchConfig, audio: AudioSpec, clip: ClipSpec, *, times: int, width: int) -> None:
        super().__init__()
        self.config, self.audio_spec, self.clip_spec = config, audio, clip
        self.vggish = VGGish(config.widths)
        self.enhance = TemporalEnhancement(config, slices=audio.slices, width=width)
        if config.readout == "timeline":
            columns = audio.width // SLICE_STRIDE
            self.pitches = nn.Parameter(torch.full((width, columns), 1 / columns))
        rows = audio.height // SLICE_STRIDE
        self.register_buffer("resample", self.resample_matrix(audio.slices, rows, times), persistent=False)

    def forward(self, slice_features: Tensor, grid: Sequence[int], times: int) -> Tensor:
        """What a window hears, at the token times of its video.

        Args:
            slice_features: (B, S, C, h', w'), what `encode_slices` gave for the window's slices.
            grid: h and w of the video's last level; h' and w' unless the readout is "timeline".
            times: T', the token times of the video features.

        Returns:
            (B*T', C*, h, w), times folded into the batch.
        """
        return self.spread(self.hear(slice_features, times), grid)

    def hear(self, slice_features: Tensor, times: int) -> Tensor:
        """As `forward`, (B*T', C*, h', w'); where the readout is "timeline", (B*T', C*, 1, 1)."""
        features = self.enhance(slice_features)  # (B, S, C*, h', w')
        slices, rows = features.shape[1], features.shape[3]
        if self.config.readout == "timeline":
            pitches = resize_rows(self.pitches, features.shape[4])
            features = (features * pitches[:, None]).sum(dim=4)  # (B, S, C*, h')
            features = features.transpose(2, 3).flatten(1, 2)[..., None, None]  # (B, S*h', C*, 1, 1)
        matrix = self.resample
        if matrix.shape != (times, features.shape[1]):
            matrix = self.resample_matrix(slices, rows, times)
        resampled = matrix.to(features) @ features.flatten(2)  # (T', S) @ (B, S, C*h*w), or S*h' for S
        return resampled.reshape(-1, *features.shape[2:])  # (B*T', C*, h', w')

    def spread(self, heard: Tensor, grid: Sequence[int]) -> Tensor:
        """What `hear` gave, on the grid of the video's last level."""
        return heard.expand(-1, -1, *grid)

    def encode_slices(self, slices: Tensor) -> Tensor:
        """VGGish features of slices alone, (N, 1, h, w) -> (N, 512, h/16, w/16): what neighbouring windows share."""
        return self.vggish(slices)

    def resample_matrix(self, slices: int, rows: int, times: int) -> Tensor:
        """(times, slices) for the readout "grid", (times, slices*rows) for "timeline"."""
        if self.config.readout == "grid":
            return resample_matrix(slices, times)
        return timeline_matrix(self.audio_spec, self.clip_spec, slices, rows, times)


def resize_rows(weights: Tensor, columns: int) -> Tensor:
    """(C, n) -> (C, columns), of the same sum."""
    if weights.shape[1] == columns:
        return weights
    resized = F.interpolate(weights[None], size=columns, mode="linear", align_corners=False)[0]
    return resized * (weights.shape[1] / columns)


class VGGish(nn.Module):
    """VGGish without its fully connected layers; the names are those of its AudioSet weights in PyTorch."""

    engine_precision = EnginePrecision(int8=False)

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
        self.qkv = with_precision(nn.Linear(width, 3 * width), int8=False)
        self.project = with_precision(nn.Linear(width, width), int8=False)
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


def timeline_matrix(audio: AudioSpec, clip: ClipSpec, slices: int, rows: int, times: int) -> Tensor:
    """(times, slices*rows) that lays the rows of overlapping slices on the token times of a window.

    A sound has no place in the picture, so nothing says that a loud moment concerns the rows of the frame at which it
    happens to lie in a slice's spectrogram. Each time takes the rows nearest to it, weighted by a triangle that is a
    row wide to each side; times that no slice reaches take the nearest rows there are.
    """
    length, hop = audio.slice_samples / audio.sample_rate_hz, audio.slice_hop_seconds
    row_seconds = length / rows
    of_slice = (torch.arange(slices) - (slices - 1) / 2) * hop
    of_row = ((torch.arange(rows) + 0.5) / rows - 0.5) * length
    heard = (of_slice[:, None] + of_row).flatten()  # seconds from the window's centre
    shown = ((torch.arange(times) + 0.5) / times - 0.5) * (clip.frames / clip.frame_rate_hz)
    shown = shown.clamp(heard.min(), heard.max())
    weights = (1 - (shown[:, None] - heard).abs() / row_seconds).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
