"""S3D (Xie et al., "Rethinking spatiotemporal feature learning", ECCV 2018) as a pyramid: Table 9's first encoder.

Inception blocks whose 3-D convolutions are a spatial and a temporal one. Parameters have torchvision's names (`s3d`),
so its Kinetics-400 weights load. Time is halved thrice on the way; the levels are brought to T / 2 times, linearly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.config import S3DConfig
from dtfsal.training.model.encoders.base import PyramidEncoder

NORM_EPS = 1e-3
# Input channels, then those of the 1x1 branch, of the two separable branches (within and out), and of the pooled one.
MIXED_3 = ((192, 64, 96, 128, 16, 32, 32), (256, 128, 128, 192, 32, 96, 64))
MIXED_4 = (
    (480, 192, 96, 208, 16, 48, 64),
    (512, 160, 112, 224, 24, 64, 64),
    (512, 128, 128, 256, 24, 64, 64),
    (512, 112, 144, 288, 32, 64, 64),
    (528, 256, 160, 320, 32, 128, 128),
)
MIXED_5 = ((832, 256, 160, 320, 32, 128, 128), (832, 384, 192, 384, 48, 128, 128))
LEVELS = (3, 6, 12, 15)  # of `features`: the last of each spatial stride


class S3D(PyramidEncoder):
    """See the module.

    Args:
        config: nothing but its kind.
    """

    channels = (192, 480, 832, 1024)

    def __init__(self, config: S3DConfig) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(
            _separable(3, 64, 7, 2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            _conv(64, 64, 1),
            _separable(64, 192, 3, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *(SepInception(*widths) for widths in MIXED_3),
            nn.MaxPool3d(3, 2, 1),
            *(SepInception(*widths) for widths in MIXED_4),
            nn.MaxPool3d(2, 2),
            *(SepInception(*widths) for widths in MIXED_5),
        )

    def forward(self, video: Tensor) -> list[Tensor]:
        """See `PyramidEncoder.forward`."""
        times = video.shape[2] // self.temporal_stride
        levels = []
        x = video
        for index, layer in enumerate(self.features):
            # Clips of less than eight frames: there is nothing left to pool along time.
            x = F.max_pool3d(x, (1, 2, 2)) if index == 13 and x.shape[2] < 2 else layer(x)
            if index in LEVELS:
                levels.append(x)
        return [F.interpolate(x, size=(times, *x.shape[3:]), mode="trilinear") for x in levels]


class SepInception(nn.Module):
    """Four branches side by side: 1x1, two separable 3x3x3, and a pooled one."""

    def __init__(self, inputs: int, plain: int, mid1: int, out1: int, mid2: int, out2: int, pooled: int) -> None:
        super().__init__()
        self.branch0 = _conv(inputs, plain, 1)
        self.branch1 = nn.Sequential(_conv(inputs, mid1, 1), _separable(mid1, out1, 3, 1))
        self.branch2 = nn.Sequential(_conv(inputs, mid2, 1), _separable(mid2, out2, 3, 1))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), _conv(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (B, C', T, h, w)."""
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


def _conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] = 1,
    padding: int | tuple[int, int, int] = 0,
) -> nn.Sequential:
    conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(outputs, eps=NORM_EPS, momentum=1e-3), nn.ReLU())


def _separable(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution over the frame, then one over time."""
    half = kernel // 2
    return nn.Sequential(
        _conv(inputs, outputs, (1, kernel, kernel), (1, stride, stride), (0, half, half)),
        _conv(outputs, outputs, (kernel, 1, 1), (stride, 1, 1), (half, 0, 0)),
    )
