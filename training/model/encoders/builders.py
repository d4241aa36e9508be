"""Which encoder a configuration names, and how it is made."""

from collections.abc import Callable, Mapping
from typing import Any

from dtfsal.engines.bundle.specs import ClipSpec
from dtfsal.training.model.config import EncoderConfig
from dtfsal.training.model.encoders.base import PyramidEncoder
from dtfsal.training.model.encoders.efficientnet import EfficientNetLite0
from dtfsal.training.model.encoders.mvit import MViT
from dtfsal.training.model.encoders.s3d import S3D
from dtfsal.training.model.encoders.swin import VideoSwin


def encoder_builders() -> Mapping[str, Callable[[Any, ClipSpec], PyramidEncoder]]:
    """By the configuration's `kind`, what makes the encoder for a clip of the nominal size."""
    return {
        "mvitv2": lambda config, clip: MViT(config, frames=clip.frames, height=clip.height, width=clip.width),
        "efficientnet-lite0": lambda config, _clip: EfficientNetLite0(config),
        "s3d": lambda config, _clip: S3D(config),
        "video-swin": lambda config, _clip: VideoSwin(config),
    }


def build_encoder(config: EncoderConfig, clip: ClipSpec) -> PyramidEncoder:
    """The encoder that a configuration describes, with random weights."""
    return encoder_builders()[config.kind](config, clip)
