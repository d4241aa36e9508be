"""Frames as tensors, normalised as the runtime normalises them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dtfsal.engines.bundle.specs import ClipSpec


def frame_tensor(frames: npt.NDArray[np.uint8], clip: ClipSpec) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, (x / 255 - mean) / std, of channels-last memory."""
    x = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(clip.mean)[:, None, None], torch.tensor(clip.std)[:, None, None]
    return (x - mean) / std
