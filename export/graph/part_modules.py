"""What each of an engine's graphs computes, as modules of parts of a model.

`dtfsal.export.graph.parts` has their tensors. A module may change the model that it is given.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.export.graph.tap_convolution import (
    SHARED_BLOCKS,
    TAP_NAMES,
    ConvolvedTaps,
    SharedTime,
    first_convolution,
    take_convolved_taps,
)
from dtfsal.training.model.config import PYRAMID_STRIDES
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.temporal import join_motion, pooled_change

CONVOLVED_LEVELS = 3  # level 4 is fused with the sound before it is decoded
POOLED = PYRAMID_STRIDES[3] // PYRAMID_STRIDES[1]  # rows and columns of level 2 in a cell of level 4


class WindowGraph(nn.Module):
    """A model that is given its sound encoded."""

    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor, slice_features: Tensor) -> Tensor:
        """(1, 3, T, H, W) and (1, S, C, h, w) -> (1, 1, H, W)."""
        features = self.model.encode_clip(video)
        saliency_map, _ = self.model.predict(features, slice_features, self.model.config.times)
        return saliency_map


class FrameGraph(nn.Module):
    """All that a frame alone decides."""

    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model
        self.convolve = nn.ModuleList(
            [ConvolvedTaps(first_convolution(d), model.config.times) for d in model.decoders[:CONVOLVED_LEVELS]]
        )

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) -> each level convolved for each tap, level 2 and its means where times are mixed, level 4."""
        config = self.model.config
        levels = self.model.encode_frames(frame)
        convolved = [tap for convolve, level in zip(self.convolve, levels, strict=False) for tap in convolve(level)]
        seen = [F.avg_pool2d(levels[1], POOLED)] if config.temporal_mixing else []
        if config.temporal_mixing and config.times > 1:
            seen.insert(0, levels[1])
        return (*convolved, *seen, levels[3])


class MotionGraph(nn.Module):
    """How level 2 changes from one time to the next."""

    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        del model  # there is nothing learned in it

    def forward(self, levels: Tensor) -> Tensor:
        """(1, 2, C, h, w) -> (1, C, h/4, w/4)."""
        return pooled_change(levels[:, 0], levels[:, 1], POOLED)


class DecodeGraph(nn.Module):
    """A time that is left after the second convolutions of the decoders of levels 1 to 3."""

    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.decoders = nn.ModuleList([SharedTime(decoder) for decoder in model.decoders[:CONVOLVED_LEVELS]])

    def forward(self, *convolved: Tensor) -> tuple[Tensor, ...]:
        """For each level and tap (1, 3, C, h, w) -> for each level (1, C', h, w)."""
        taps = len(TAP_NAMES)
        levels = [convolved[first : first + taps] for first in range(0, len(convolved), taps)]
        return tuple(decoder(level) for decoder, level in zip(self.decoders, levels, strict=True))


class SliceGraph(nn.Module):
    """A slice of sound."""

    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor) -> Tensor:
        """(1, 1, h, w) -> (1, C, h/16, w/16)."""
        return self.model.audio.encode_slices(mel)


class SoundGraph(nn.Module):
    """What a window hears."""

    def __init__(self, model: DTFSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, slice_features: Tensor) -> Tensor:
        """(1, S, C, h, w) -> (1, T, C*, h', w')."""
        return self.model.audio.hear(slice_features, self.model.config.times)[None]


class HeadGraph(nn.Module):
    """A window's map, of what the other graphs give."""

    def __init__(self, model: DTFSal, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)
        self.done = SHARED_BLOCKS if "decoded_1" in names else 0
        if not self.done:
            for decoder in model.decoders[:CONVOLVED_LEVELS]:
                take_convolved_taps(decoder)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors (1, n, C, h, w) in the order of the names -> (1, 1, H, W)."""
        model, times = self.model, self.model.config.times
        given = dict(zip(self.names, tensors, strict=True))
        deepest = given["features_4"].flatten(0, 1)
        motion = None
        if model.config.temporal_mixing:
            seen = given["pooled_2"].flatten(0, 1)
            none = deepest.new_zeros((1, 0, *deepest.shape[1:]))  # a single time has no change
            motion = join_motion(deepest, seen, given.get("change_2", none))
        heard = given["heard"].flatten(0, 1) if "heard" in given else None
        fused = model.fuse_motion(motion, deepest, heard, times)
        size = (model.config.clip.height, model.config.clip.width)
        logits = []
        for level, decoder in enumerate(model.decoders, 1):
            if level > CONVOLVED_LEVELS:
                logits.append(decoder(fused, times, size))
            elif self.done:
                decoded = given[f"decoded_{level}"]
                # A pooling of single values changes none. ONNX Runtime brings what it pools into the layout of its
                # convolutions, where it also resizes: 0.3 ms in place of 1.4.
                packed = F.max_pool2d(decoded.flatten(0, 1), 1)
                logits.append(decoder(packed, decoded.shape[1], size, done=self.done))
            else:  # the decoder's first convolution takes the taps of a level in the place of its features
                taps = [t.flatten(0, 1) for name, t in given.items() if name.startswith(f"convolved_{level}_")]
                logits.append(decoder(taps, times, size))
        return model.join(logits)[0]
