"""The visual encoder as an interface: a pyramid of four levels. MViTv2 is the paper's; others register beside it."""

import abc
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from dtfsal.runtime.windows import ClipSpec
from dtfsal.training.config import PYRAMID_STRIDES, TEMPORAL_STRIDE, MViTConfig


class PyramidEncoder(nn.Module, abc.ABC):
    """A clip to the pyramid F_1^E..F_4^E of eq. 1.

    The rest of the model asks nothing else of an encoder. To add one: a frozen configuration with a `kind` of its own,
    entered in `config.ENCODER_CONFIGS`; a subclass of this; an entry in `encoder_builders`.

    Attributes:
        channels: channels of the four levels.
        strides: their spatial strides, from the frame.
        temporal_stride: frames per token time.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = PYRAMID_STRIDES
    temporal_stride: int = TEMPORAL_STRIDE

    @abc.abstractmethod
    def forward(self, video: Tensor) -> list[Tensor]:
        """Encode a clip.

        Args:
            video: (B, 3, T, H, W), normalised.

        Returns:
            Four tensors (B, channels[i], T / temporal_stride, H / strides[i], W / strides[i]).
        """


def encoder_builders() -> Mapping[str, Callable[[MViTConfig, ClipSpec], PyramidEncoder]]:
    """By the configuration's `kind`, what makes the encoder for a clip of the nominal size."""
    from dtfsal.training.mvit import MViT

    return {
        "mvitv2": lambda config, clip: MViT(config, frames=clip.frames, height=clip.height, width=clip.width),
    }


def build_encoder(config: MViTConfig, clip: ClipSpec) -> PyramidEncoder:
    """The encoder that a configuration describes, with random weights."""
    return encoder_builders()[config.kind](config, clip)
