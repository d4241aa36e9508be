"""The visual encoder as an interface: a pyramid of four levels. MViTv2 is the paper's; others register beside it."""

import abc

from torch import Tensor, nn

from dtfsal.training.model.config import PYRAMID_STRIDES, TEMPORAL_STRIDE


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
