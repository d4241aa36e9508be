"""MViTv2's depthwise 3x3x3 pooling as a 2-D convolution: the same products, summed in another order.

It is for back ends whose depthwise 3-D convolution is slow:

    y(t, p) = sum_k z_k(t + k - 1, p),      z_k(t, .) = w_k * x(t, .),

with z_k the depthwise 2-D convolution of frame t by the kernel's temporal slice k, and zero before the first and after
the last frame. The three z_k are one convolution of three outputs for each channel, which reads x once. The temporal
stride is 1, so nearly all of what it computes is used: all but z_0 of the last frame and z_2 of the first.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class PlanarPool(nn.Module):
    """A depthwise `Conv3d` 3x3x3 of temporal stride 1 and padding 1 in 2-D convolutions.

    Args:
        conv: the convolution, without a bias; its weights are copied, re-arranged.
    """

    weight: Tensor

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        channels = conv.in_channels
        planar = (
            conv.groups == channels == conv.out_channels
            and conv.bias is None
            and conv.kernel_size == (3, 3, 3)
            and conv.padding == (1, 1, 1)
            and conv.dilation == (1, 1, 1)
            and conv.stride[0] == 1
        )
        if not planar:
            raise ValueError(f"not a depthwise 3x3x3 convolution of temporal stride 1 without a bias: {conv}")
        self.channels, self.stride = channels, (conv.stride[1], conv.stride[2])
        taps = conv.weight.detach()[:, 0]  # (C, 3, 3, 3), times first
        self.register_buffer("weight", taps.flatten(0, 1)[:, None].contiguous())  # (C*3, 1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H', W')."""
        times = x.shape[2]
        frames = x.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W)
        z = F.conv2d(frames, self.weight, stride=self.stride, padding=1, groups=self.channels)  # (N*T, C*3, H', W')
        z = z.unflatten(1, (self.channels, 3)).unflatten(0, (-1, times))  # (N, T, C, 3, H', W')
        before, same, after = z.unbind(3)
        y = same + F.pad(before[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)) + F.pad(after[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        return y.transpose(1, 2)  # (N, T, C, H', W') -> (N, C, T, H', W')


__all__ = ["PlanarPool"]
