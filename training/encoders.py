"""The visual encoder as an interface: a pyramid of four levels. MViTv2 is the paper's; others register beside it."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from dtfsal.runtime.windows import ClipSpec
from dtfsal.training.config import PYRAMID_STRIDES, TEMPORAL_STRIDE, EncoderConfig


class PyramidEncoder(nn.Module, abc.ABC):
    """A clip to the pyramid F_1^E..F_4^E of eq. 1.

    The rest of the model asks nothing else of an encoder. To add one: a frozen configuration with a `kind` of its own,
    entered in `config.ENCODER_CONFIGS`; a subclass of this; an entry in `encoder_builders`.

    Attributes:
        channels: channels of the four levels.
        strides: their spatial strides, from the frame.
        temporal_stride: frames per token time.
        per_frame: whether a frame's features depend on no other frame. Such an encoder also has `encode_frames`, and
            its features, and all that follows up to the fusion, can be reused by every window that holds the frame.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = PYRAMID_STRIDES
    temporal_stride: int = TEMPORAL_STRIDE
    per_frame: bool = False

    @abc.abstractmethod
    def forward(self, video: Tensor) -> list[Tensor]:
        """Encode a clip.

        Args:
            video: (B, 3, T, H, W), normalised.

        Returns:
            Four tensors (B, channels[i], T / temporal_stride, H / strides[i], W / strides[i]).
        """

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        """Encode frames alone, (N, 3, H, W) -> four tensors (N, channels[i], H / strides[i], W / strides[i])."""
        raise NotImplementedError(f"{type(self).__name__} takes whole clips")


def encoder_builders() -> Mapping[str, Callable[[Any, ClipSpec], PyramidEncoder]]:
    """By the configuration's `kind`, what makes the encoder for a clip of the nominal size."""
    from dtfsal.training.efficientnet import EfficientNetLite0
    from dtfsal.training.mvit import MViT
    from dtfsal.training.s3d import S3D
    from dtfsal.training.swin import VideoSwin

    return {
        "mvitv2": lambda config, clip: MViT(config, frames=clip.frames, height=clip.height, width=clip.width),
        "efficientnet-lite0": lambda config, _clip: EfficientNetLite0(config),
        "s3d": lambda config, _clip: S3D(config),
        "video-swin": lambda config, _clip: VideoSwin(config),
    }


def build_encoder(config: EncoderConfig, clip: ClipSpec) -> PyramidEncoder:
    """The encoder that a configuration describes, with random weights."""
    return encoder_builders()[config.kind](config, clip)
