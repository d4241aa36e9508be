"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variant: ReLU6, no squeeze-and-excitation), frame by frame.

The padding is TensorFlow's, since the ImageNet weights come from there: a strided convolution of an even size pads one
row and column more after than before.
"""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.config import EfficientNetConfig
from dtfsal.training.model.encoders.base import PyramidEncoder
from dtfsal.training.model.precision import with_precision

NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01

# (expansion, kernel, stride of the first block, channels, blocks) of the seven stages.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
LEVEL_STAGES = (1, 2, 4, 6)  # the last stage at each of the strides 4, 8, 16, 32


class EfficientNetLite0(PyramidEncoder):
    """Each frame alone to 24, 40, 112 and 320 channels at strides 4, 8, 16 and 32; time stays as it is."""

    channels = tuple(STAGES[stage][3] for stage in LEVEL_STAGES)
    temporal_stride = 1
    per_frame = True

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        del config  # there is one size of it
        self.stem = ConvNorm(3, 32, kernel=3, stride=2)
        blocks, channels = [], 32
        for expansion, kernel, stride, out_channels in _each_block():
            blocks.append(InvertedResidual(channels, out_channels, expansion, kernel, stride))
            channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        ends = list(itertools.accumulate(stage[4] for stage in STAGES))
        self.level_blocks = tuple(ends[stage] - 1 for stage in LEVEL_STAGES)

    def forward(self, video: Tensor) -> list[Tensor]:
        """(B, 3, T, H, W) -> four tensors (B, C_i, T, H / strides[i], W / strides[i])."""
        batch = video.shape[0]
        levels = self.encode_frames(video.transpose(1, 2).flatten(0, 1))  # (B*T, 3, H, W)
        return [level.unflatten(0, (batch, -1)).transpose(1, 2) for level in levels]

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> four tensors (N, C_i, H / strides[i], W / strides[i])."""
        x = F.relu6(self.stem(frames))
        levels = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.level_blocks:
                levels.append(x)
        return levels


class ConvNorm(nn.Module):
    """A convolution without bias, padded as TensorFlow pads, and batch normalisation."""

    def __init__(self, channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        extra = kernel - stride  # rows that the padding adds in all, for a size that the stride divides
        self.pad = (extra // 2, extra - extra // 2)
        symmetric = self.pad[0] if self.pad[0] == self.pad[1] else 0
        self.conv = nn.Conv2d(
            channels, out_channels, kernel, stride=stride, padding=symmetric, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h / stride, w / stride)."""
        if self.pad[0] != self.pad[1]:
            x = F.pad(x, self.pad + self.pad)
        return self.norm(self.conv(x))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a shortcut where the shape stays."""

    def __init__(self, channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = ConvNorm(channels, hidden) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel=kernel, stride=stride, groups=hidden)
        self.project = with_precision(ConvNorm(hidden, out_channels), int8=False)
        self.shortcut = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h / stride, w / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.shortcut else y


def rename_imagenet_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The ImageNet file's names to ours; its head and classifier are dropped.

    The file is that of EfficientNet-Lite0 converted from TensorFlow (`efficientnet-lite0-57934424.pth`).
    """
    prefixes = {"_conv_stem.": "stem.conv.", "_bn0.": "stem.norm."}
    for number, (expansion, *_rest) in enumerate(_each_block()):
        theirs, ours = f"_blocks.{number}.", f"blocks.{number}."
        if expansion > 1:
            prefixes |= {f"{theirs}_expand_conv.": f"{ours}expand.conv.", f"{theirs}_bn0.": f"{ours}expand.norm."}
        prefixes |= {
            f"{theirs}_depthwise_conv.": f"{ours}depthwise.conv.",
            f"{theirs}_bn1.": f"{ours}depthwise.norm.",
            f"{theirs}_project_conv.": f"{ours}project.conv.",
            f"{theirs}_bn2.": f"{ours}project.norm.",
        }
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(("_conv_head.", "_bn1.", "_fc.")):
            continue
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        renamed[name if prefix is None else prefixes[prefix] + name.removeprefix(prefix)] = tensor
    return renamed


def _each_block() -> list[tuple[int, int, int, int]]:
    """(expansion, kernel, stride, channels) of the sixteen blocks in order."""
    return [
        (expansion, kernel, stride if index == 0 else 1, channels)
        for expansion, kernel, stride, channels, count in STAGES
        for index in range(count)
    ]
