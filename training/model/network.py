"""DTFSal, top-down: encoders, feature enhancement, multimodal fusion, decoders, final fusion (paper, section 3).

Everything between the encoder and the decoders looks at one token time at a time, so times are folded into the batch
there: a paper's Conv3d 1x3x3 on (B, C, T', h, w) is a Conv2d 3x3 on (B*T', C, h, w).
"""

from typing import Literal, overload

import torch
from torch import Tensor, nn

from dtfsal.engines.errors import UsageError
from dtfsal.training.model.ablations import build_fusion, build_joint_decoder
from dtfsal.training.model.audio import AudioBranch
from dtfsal.training.model.blocks import AMFB, DLTFB, LTEB, Decoder, TopDown, use_layer_norms
from dtfsal.training.model.config import PYRAMID_STRIDES, ModelConfig, resolve_config
from dtfsal.training.model.encoders.builders import build_encoder
from dtfsal.training.model.temporal import Synchrony, TemporalMixing, motion_features

FINAL_GAIN = 10.0


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
                self.fusion = build_fusion(config.fusion, width)
            if config.temporal_mixing:
                self.synchrony = Synchrony(width)
        joint_decoder = build_joint_decoder(config.decoder, width, config.decoder_widths)
        if joint_decoder is not None:
            self.joint_decoder = joint_decoder
        else:
            self._build_decoders(config, len(grids))
        if config.normalisation == "layer":
            for name, part in self.named_children():
                if name in ("fusion", "decoders", "joint_decoder"):  # an encoder's are part of its weights
                    use_layer_norms(part)

    def _build_decoders(self, config: ModelConfig, levels: int) -> None:
        self.decoders = nn.ModuleList([Decoder(config.width, config.decoder_widths) for _ in range(levels)])
        self.final = nn.Conv2d(levels, 1, 1)  # eq. 16: a 1x1x1 convolution over the four maps
        # Side maps of 0 make 0.007 of the final map, those of 1 make 0.993: with the usual small weights it is grey,
        # and still was after eight epochs of OSIE.
        nn.init.constant_(self.final.weight, FINAL_GAIN / levels)
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
        heard = None if slice_features is None else self.audio.hear(slice_features, times)
        motion = motion_features(finer, deepest, times) if self.config.temporal_mixing else None
        return self.fuse_motion(motion, deepest, heard, times)

    def fuse_motion(self, motion: Tensor | None, deepest: Tensor, heard: Tensor | None, times: int) -> Tensor:
        """As `fuse`, of what `motion_features` and `AudioBranch.hear` gave; None where the model has none."""
        heard = None if heard is None else self.audio.spread(heard, deepest.shape[2:])
        if motion is not None:
            deepest = self.mixing(motion, deepest, times)
            if heard is not None:
                sound = heard.mean(dim=(2, 3)).unflatten(0, (-1, times))  # (B, T', C*)
                heard = heard + self.synchrony(motion, sound, times)
        return deepest if heard is None else self.fusion(deepest, heard, times)

    def decode(self, features: list[Tensor], times: int, *, at_rest: bool = False) -> tuple[Tensor, Tensor]:
        """Fused features (B*T', C*, h_i, w_i) to the saliency map (B, 1, H, W) and the decoders' maps (B, 4, H, W).

        A decoder of all levels at once has one map, which is both.

        Args:
            features: of all times; at rest, where all times of a window are equal, (B, C*, h_i, w_i) of one.
            times: T'.
            at_rest: the same maps at a fraction of the cost, for decoders of one level each.
        """
        stride, deepest = self.encoder.strides[-1], features[-1]
        size = (deepest.shape[2] * stride, deepest.shape[3] * stride)
        if self.config.decoder != "multi":
            saliency_map = self.joint_decoder(features, times, size).sigmoid()
            return saliency_map, saliency_map
        pairs = zip(self.decoders, features, strict=True)
        return self.join([decoder(level, times, size, at_rest=at_rest) for decoder, level in pairs])

    def join(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The decoders' logits, each (B, 1, H, W), to what `decode` gives."""
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
