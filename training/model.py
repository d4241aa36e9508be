"""DTFSal, top-down: encoders, feature enhancement, multimodal fusion, decoders, final fusion (paper, section 3).

Everything between the encoder and the decoders looks at one token time at a time, so times are folded into the batch
there: a paper's Conv3d 1x3x3 on (B, C, T', h, w) is a Conv2d 3x3 on (B*T', C, h, w).
"""

import importlib
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.runtime.errors import UsageError
from dtfsal.training.audio import AudioBranch
from dtfsal.training.config import PYRAMID_STRIDES, ModelConfig, resolve_config
from dtfsal.training.deform_conv import ModulatedDeformConv2d
from dtfsal.training.encoders import build_encoder
from dtfsal.training.temporal import Synchrony, TemporalMixing, motion_features

FINAL_GAIN = 10.0


def ablations() -> Any:
    """What the paper compares its parts with; a module that needs this one."""
    return importlib.import_module("dtfsal.training.ablations")


def build_model(preset_or_config: str | ModelConfig) -> "DTFSal":
    """A model with random weights, in training mode.

    Args:
        preset_or_config: a preset's name (`PRESETS`), or a configuration.

    Raises:
        UsageError: there is no such preset.
    """
    return DTFSal(resolve_config(preset_or_config))


class DTFSal(nn.Module):
    """DTFSal, or DTFSal(V) where the configuration has no audio.

    The encoder is any `PyramidEncoder`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        clip, width = config.clip, config.width
        self.encoder = build_encoder(config.encoder, clip)
        grids = [(clip.height // stride, clip.width // stride) for stride in self.encoder.strides]
        self.top_down = TopDown(self.encoder.channels, width)
        self.enhance = nn.ModuleList(
            [_enhancement(kind, config, grid) for kind, grid in zip(config.enhancement, grids, strict=True)]
        )
        if config.temporal_mixing:
            self.mixing = TemporalMixing(width)
        if config.audio is not None:
            self.audio = AudioBranch(config.audio_branch, config.audio, config.clip, times=config.times, width=width)
            self.fusion: nn.Module = AMFB(width)
            if config.fusion != "amfb":
                self.fusion = ablations().build_fusion(config.fusion, width)
            if config.temporal_mixing:
                self.synchrony = Synchrony(width)
        if config.decoder != "multi":
            self.joint_decoder = ablations().build_joint_decoder(config.decoder, width, config.decoder_widths)
            return
        self.decoders = nn.ModuleList([Decoder(width, config.decoder_widths) for _ in grids])
        self.final = nn.Conv2d(len(grids), 1, 1)  # eq. 16: a 1x1x1 convolution over the four maps
        # Side maps of 0 make 0.007 of the final map, those of 1 make 0.993: with the usual small weights it is grey,
        # and still was after eight epochs of OSIE.
        nn.init.constant_(self.final.weight, FINAL_GAIN / len(grids))
        assert self.final.bias is not None
        nn.init.constant_(self.final.bias, -FINAL_GAIN / 2)

    @overload
    def forward(
        self, video: Tensor, audio: Tensor | None = ..., *, return_side_maps: Literal[False] = ...
    ) -> Tensor: ...
    @overload
    def forward(
        self, video: Tensor, audio: Tensor | None = ..., *, return_side_maps: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, video: Tensor, audio: Tensor | None = None, *, return_side_maps: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The saliency map of a window's target frame.

        Args:
            video: (B, 3, T, H, W), normalised; T a multiple of the encoder's temporal stride, H and W of 32.
            audio: (B, 9, 1, H/2, W/2) log-mel slices; None is digital silence. The visual model takes None only.
            return_side_maps: also return the decoders' maps s_1..s_4 (eq. 15) as (B, 4, H, W).

        Returns:
            (B, 1, H, W) in [0, 1].

        Raises:
            UsageError: a shape does not fit.
        """
        audio = self._checked(video, audio)
        features = self.encode_clip(video)
        slice_features = None
        if audio is not None:
            slice_features = self.audio.encode_slices(audio.flatten(0, 1)).unflatten(0, audio.shape[:2])
        saliency_map, side_maps = self.predict(features, slice_features, video.shape[2] // self.encoder.temporal_stride)
        return (saliency_map, side_maps) if return_side_maps else saliency_map

    def encode_clip(self, video: Tensor) -> list[Tensor]:
        """What a window's frames decide: (B, 3, T, H, W) to F_1^R..F_4^R, enhanced, each (B*T', C*, h_i, w_i)."""
        return self.refine([level.transpose(1, 2).flatten(0, 1) for level in self.encoder(video)])

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        """What a frame alone decides, for encoders that see frames alone.

        Args:
            frames: (N, 3, H, W), normalised.

        Returns:
            The refined features F_1^R..F_4^R, enhanced, each (N, C*, H / strides[i], W / strides[i]).
        """
        return self.refine(self.encoder.encode_frames(frames))

    def refine(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Top-down injection and enhancement: levels (N, C_i, h_i, w_i) to (N, C*, h_i, w_i), each time alone."""
        return [block(level) for block, level in zip(self.enhance, self.top_down(pyramid), strict=True)]

    def predict(self, features: list[Tensor], slice_features: Tensor | None, times: int) -> tuple[Tensor, Tensor]:
        """What a window decides: fusion with the sound, decoders, final fusion.

        Args:
            features: what `refine` gave, each (B*T', C*, h_i, w_i), the times of a window together.
            slice_features: what `AudioBranch.encode_slices` gave, (B, S, C, h, w); None for a visual model.
            times: T'.

        Returns:
            The saliency map (B, 1, H, W) and the decoders' maps (B, 4, H, W), in [0, 1].
        """
        *finer, deepest = features
        return self.decode([*finer, self.fuse(finer[1], deepest, slice_features, times)], times)

    def fuse(self, finer: Tensor, deepest: Tensor, slice_features: Tensor | None, times: int) -> Tensor:
        """Level 4 mixed along time and fused with the sound.

        Args:
            finer: level 2, (B*T', C*, 4 h, 4 w); used where the configuration has temporal mixing.
            deepest: level 4, (B*T', C*, h, w).
            slice_features: as for `predict`.
            times: T'.

        Returns:
            (B*T', C*, h, w).
        """
        heard = None if slice_features is None else self.audio(slice_features, deepest.shape[2:], times)
        if self.config.temporal_mixing:
            motion = motion_features(finer, deepest, times)
            deepest = self.mixing(motion, deepest, times)
            if heard is not None:
                sound = heard.mean(dim=(2, 3)).unflatten(0, (-1, times))  # (B, T', C*)
                heard = heard + self.synchrony(motion, sound, times)
        return deepest if heard is None else self.fusion(deepest, heard, times)

    def decode(self, features: list[Tensor], times: int) -> tuple[Tensor, Tensor]:
        """Fused features (B*T', C*, h_i, w_i) to the saliency map (B, 1, H, W) and the decoders' maps (B, 4, H, W).

        A decoder of all levels at once has one map, which is both.
        """
        stride, deepest = self.encoder.strides[-1], features[-1]
        size = (deepest.shape[2] * stride, deepest.shape[3] * stride)
        if self.config.decoder != "multi":
            saliency_map = self.joint_decoder(features, times, size).sigmoid()
            return saliency_map, saliency_map
        logits = [decoder(level, times, size) for decoder, level in zip(self.decoders, features, strict=True)]
        side_maps = torch.cat(logits, dim=1).sigmoid()  # eq. 15: (B, 4, H, W)
        return self.final(side_maps).sigmoid(), side_maps  # eq. 16

    def _checked(self, video: Tensor, audio: Tensor | None) -> Tensor | None:
        """The audio to use; raises where shapes can't be."""
        stride, temporal_stride = PYRAMID_STRIDES[-1], self.encoder.temporal_stride
        if video.ndim != 5 or video.shape[1] != 3:
            raise UsageError(f"video must be (B, 3, T, H, W), not {tuple(video.shape)}")
        if not video.is_floating_point():
            raise UsageError(f"video must be floating point, normalised by the clip's mean and std, not {video.dtype}")
        batch, _, frames, height, width = video.shape
        if frames % temporal_stride or height % stride or width % stride or not video.numel():
            raise UsageError(
                f"{batch} clips of {frames}x{height}x{width} do not fit: T must be a multiple of {temporal_stride}, "
                f"H and W multiples of {stride}"
            )
        spec = self.config.audio
        if spec is None:
            if audio is not None:
                raise UsageError(f"the model {self.config.name!r} is visual only: call it without audio")
            return None
        shape = (batch, spec.slices, 1, height // 2, width // 2)
        if audio is None:
            return video.new_full(shape, spec.silence)
        if tuple(audio.shape) != shape:
            raise UsageError(f"audio must be {shape} for this video, not {tuple(audio.shape)}")
        return audio


def _enhancement(kind: str, config: ModelConfig, grid: tuple[int, int]) -> nn.Module:
    """A level's block (Table 3): as the paper has it, LTEB at levels 1 to 3 and DLTFB at level 4."""
    if kind == "dltfb":
        return DLTFB(config.width, config.tokens, config.token_map_size, grid, config.max_shift)
    return LTEB(config.width, config.tokens, config.token_map_size, grid) if kind == "lteb" else nn.Identity()


class TopDown(nn.Module):
    """Lateral convolutions, top-down injection and refinement (eq. 2-3)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in channels])
        self.refine = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels[:-1]])

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Four levels (N, C_i, h_i, w_i) to F_1^R..F_4^R, each (N, C*, h_i, w_i)."""
        f1, f2, f3, f4 = (conv(level) for conv, level in zip(self.lateral, pyramid, strict=True))
        f3 = f3 + upsample(f4, f3.shape[-2:])
        f2 = f2 + upsample(f3, f2.shape[-2:]) + upsample(f4, f2.shape[-2:])
        f1 = f1 + upsample(f2, f1.shape[-2:]) + upsample(f4, f1.shape[-2:])
        return [conv(level) for conv, level in zip(self.refine, (f1, f2, f3), strict=True)] + [f4]


class LTEB(nn.Module):
    """Learnable Token Enhancement Block (eq. 4-8).

    Softmax weights sum to one, and interpolation and convolution are linear, so the convolution of eq. 7 over the
    mixture of eq. 6 equals the mixture of the N convolved tokens, bias included: Conv(Interp(sum_i w_i P_i)) =
    sum_i w_i Conv(Interp(P_i)). The N token maps are convolved once instead of one mixture for each time, and
    `fold_tokens` makes them constants of a graph. `tokens_for` is where the benchmarks put the definitional form.
    """

    def __init__(self, width: int, tokens: int, token_grid: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.gate = nn.Conv2d(width, width, 3, padding=1)
        self.weights = nn.Linear(width, tokens)
        self.tokens = nn.Parameter(torch.empty(tokens, width, *token_grid))
        self.token_conv = nn.Conv2d(width, width, 3, padding=1)
        self.folded: Tensor | None = None
        self.nominal_grid = grid
        self.tokens_for: Callable[[LTEB, Tensor, tuple[int, int]], Tensor] = mix_token_maps
        nn.init.trunc_normal_(self.tokens, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C*, h, w) -> (N, C*, h, w)."""
        return x * self.token_map(x) + x  # eq. 8

    def token_map(self, x: Tensor) -> Tensor:
        """P'' of eq. 7, (N, C*, h, w)."""
        embedding = self.gate(x).sigmoid().mean(dim=(2, 3))  # eq. 4 and E(t): (N, C*)
        return self.tokens_for(self, self.weights(embedding).softmax(dim=1), (x.shape[2], x.shape[3]))

    def token_maps(self, grid: tuple[int, int]) -> Tensor:
        """Q_i = Conv(Interp(P_i)), (N, C*, h, w)."""
        if self.folded is not None and self.folded.shape[-2:] == grid:
            return self.folded
        maps: Tensor = self.token_conv(upsample(self.tokens, grid))
        return maps

    def fold_tokens(self) -> None:
        """Keep the token maps of the nominal size as a constant; for inference, undone by nothing but a new model."""
        with torch.no_grad():
            maps = self.token_maps(self.nominal_grid)
        del self.folded
        self.register_buffer("folded", maps.detach(), persistent=False)


def mix_token_maps(block: LTEB, weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """sum_i w_i Q_i: weights (N, tokens) -> (N, C*, h, w)."""
    maps = block.token_maps(grid)
    return (weights @ maps.flatten(1)).unflatten(1, maps.shape[1:])


class DLTFB(LTEB):
    """Dynamic Learnable Token Fusion Block (eq. 9-11): LTEB's token path, and a path that shifts channel groups."""

    def __init__(
        self, width: int, tokens: int, token_grid: tuple[int, int], grid: tuple[int, int], max_shift: int
    ) -> None:
        super().__init__(width, tokens, token_grid, grid)
        self.max_shift = max_shift
        self.conv_in = nn.Conv2d(width, width, 1)
        self.conv_mid = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.conv_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C*, h, w) -> (N, C*, h, w)."""
        y = self.conv_mid(F.gelu(self.conv_in(shift(x, self.max_shift, dim=3))))  # eq. 9
        y = shift(y, self.max_shift, dim=2)
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # LayerNorm over channels
        shifted = x + self.conv_out(y)  # eq. 10
        return x * self.token_map(x) + shifted  # eq. 11


def shift(x: Tensor, max_shift: int, dim: int) -> Tensor:
    """Move 2 s + 1 groups of channels by -s..s positions along `dim`; zeros enter, (N, C, h, w) stays."""
    size, groups = x.shape[dim], x.tensor_split(2 * max_shift + 1, dim=1)
    moved = []
    for step, group in zip(range(-max_shift, max_shift + 1), groups, strict=True):
        before, after = min(max(step, 0), size), min(max(-step, 0), size)
        kept = group.narrow(dim, after, size - before - after)
        moved.append(F.pad(kept, (before, after) if dim == 3 else (0, 0, before, after)))
    return torch.cat(moved, dim=1)


class AMFB(nn.Module):
    """Adaptive Multimodal Fusion Block: local, global and adaptive streams, weighted by scores (eq. 12-14)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local_stream = ConvNormAct(nn.Conv2d(2 * width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.global_stream = ConvNormAct(nn.Conv2d(2 * width, width, 5, padding=2), nn.BatchNorm2d(width))
        self.adaptive_stream = ConvNormAct(ModulatedDeformConv2d(2 * width, width), nn.BatchNorm2d(width))
        self.scores = nn.Linear(3 * width, 3)

    def forward(self, visual: Tensor, audio: Tensor, times: int) -> Tensor:
        """Visual and audio features, each (B*T', C*, h, w), to the fused (B*T', C*, h, w)."""
        x = torch.cat((visual, audio), dim=1)
        streams = (self.local_stream(x), self.global_stream(x), self.adaptive_stream(x))
        pooled = torch.cat([stream.mean(dim=(2, 3)) for stream in streams], dim=1)  # (B*T', 3 C*)
        pooled = pooled.unflatten(0, (-1, times)).mean(dim=1)  # GAP is over time too: (B, 3 C*)
        scores = self.scores(pooled).sigmoid().repeat_interleave(times, dim=0)  # eq. 13: (B*T', 3)
        local_, global_, adaptive = scores[..., None, None].unbind(dim=1)  # each (B*T', 1, 1)
        return local_[:, None] * streams[0] + global_[:, None] * streams[1] + adaptive[:, None] * streams[2]  # eq. 14


class ConvNormAct(nn.Module):
    """A convolution, batch normalisation and ReLU; export folds the normalisation into the convolution."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor, *args: int) -> Tensor:
        """The convolution's input to its output's shape; further arguments are the convolution's."""
        return F.relu(self.norm(self.conv(x, *args)))


class Decoder(nn.Module):
    """One level's features to the logits of its saliency map (section 3.4): 3-D convolutions that also consume time."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        blocks = []
        for width in widths:
            blocks.append(ConvNormAct(TemporalConv(channels, width), nn.BatchNorm2d(width)))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.predict = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, times: int, size: tuple[int, int]) -> Tensor:
        """(B*T', C*, h, w) -> logits (B, 1, H, W)."""
        for index, block in enumerate(self.blocks):
            x = block(x, times)
            times = TemporalConv.output_times(times)
            if index in (1, 2):
                x = upsample(x, (2 * x.shape[2], 2 * x.shape[3]))
        return upsample(self.predict(mean_over_times(x, times)), size)


def mean_over_times(x: Tensor, times: int) -> Tensor:
    """(B*times, C, h, w) -> (B, C, h, w)."""
    return x if times == 1 else x.unflatten(0, (-1, times)).mean(dim=1)


class TemporalConv(nn.Module):
    """Conv3d 3x3x3 that halves the number of times, on times folded into the batch.

    The stride in time is 2. Of an even number of times the first, the one farthest from the target, is left out. 3, 7,
    15 or 31 times need no padding: 15 -> 7 -> 3 -> 1. Any other odd number is taken as the middle of the next of these,
    with zeros at both ends alike; output times that would see zeros only are not computed. One time stays one.
    docs/model.md says why.

    Each output time is a 2-D convolution over the channels of its three input times, an exact rewrite that lets every
    back end use its 2-D kernels. Where one time is left, the central tap alone meets it, and the others are left out.
    `operator` is where the benchmarks put the definitional form.
    """

    STRIDE = 2

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels, 3, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.folded: tuple[int, Tensor] | None = None
        self.operator: Callable[[TemporalConv, Any, int], Tensor] = convolve_in_2d
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    @staticmethod
    def first_time(times: int) -> int:
        """The first time that is read: 1 where the number of times is even, else 0."""
        return 1 - times % 2

    @classmethod
    def padding(cls, times: int) -> int:
        """Zeros before the first and after the last time that is read."""
        read = times - cls.first_time(times)
        if read == 1:
            return 1
        missing = (2 ** read.bit_length() - 1 - read) // 2  # at each end, up to 3, 7, 15 or 31 times
        return 0 if missing == 0 else 2 - missing % 2  # an output time sees at least one time, so at most two zeros

    @classmethod
    def output_times(cls, times: int) -> int:
        """Times that are left of `times`."""
        return (times - cls.first_time(times) + 2 * cls.padding(times) - 3) // cls.STRIDE + 1

    def forward(self, x: Tensor, times: int) -> Tensor:
        """(B*times, C, h, w) -> (B*output_times, C', h, w)."""
        return self.operator(self, x, times)

    def fold(self, times: int) -> None:
        """Keep the re-arranged kernel for this many input times as a constant; for inference."""
        self.folded = (times, self.weight_2d(times).detach())

    @staticmethod
    def taps(times: int) -> range:
        """The temporal taps that meet a time, not padding: all three, or the central one where one time is read."""
        return range(3) if times > 2 else range(1, 2)

    def weight_2d(self, times: int) -> Tensor:
        """(C', C, 3, 3, 3) -> (C', taps*C, 3, 3)."""
        taps = self.taps(times)
        return self.weight[:, :, taps.start : taps.stop].transpose(1, 2).flatten(1, 2)

    def windows(self, clip: Tensor) -> list[Tensor]:
        """For each of `taps` the times that it meets, (B, times, ...) -> taps of (B, output_times, ...)."""
        times = clip.shape[1]
        start, padding, count = self.first_time(times), self.padding(times), self.output_times(times)
        if times <= 2:
            return [clip[:, start:]]
        if padding:
            clip, start = F.pad(clip[:, start:], (0, 0) * (clip.ndim - 2) + (padding, padding)), 0
        starts = [start + tap for tap in self.taps(times)]
        return [clip[:, first : first + self.STRIDE * (count - 1) + 1 : self.STRIDE] for first in starts]


def convolve_in_2d(conv: TemporalConv, x: Tensor, times: int) -> Tensor:
    """A `TemporalConv` as one 2-D convolution, (B*times, C, h, w) -> (B*output_times, C', h, w)."""
    folded = conv.folded if conv.folded is not None and conv.folded[0] == times else None
    weight = conv.weight_2d(times) if folded is None else folded[1]
    if times > 1:
        clip = x.unflatten(0, (-1, times))  # (B, times, C, h, w)
        # (B*output_times, taps*C, h, w); the three times of a single output lie side by side already.
        x = clip.flatten(1, 2) if times == 3 else torch.cat(conv.windows(clip), dim=2).flatten(0, 1)
    return F.conv2d(x, weight, conv.bias, padding=1)


def upsample(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear over rows and columns (trilinear with the time axis kept), half-pixel centres."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
