"""MViTv2's depthwise 3x3x3 pooling in 2-D convolutions: the same products, summed in another order.

    y(t, p) = sum_k z_k(t + k - 1, p),      z_k(t, .) = w_k * x(t, .),

with z_k the depthwise 2-D convolution of frame t by the kernel's temporal slice k, and zero before the first and after
the last frame. The temporal stride is 1, so nearly all of what is computed is used: all but z_0 of the last frame and
z_2 of the first.

It is for back ends whose depthwise 3-D convolution is slow. TensorRT-RTX 1.7 has none: it gives each channel a second
one of zeros, in a kernel of its own, and runs a grouped 3-D convolution of twice the channels. A depthwise 2-D
convolution it runs as it is, but one of several outputs for each channel it pads in the same way, so the three z_k are
three convolutions here. Which form is faster only a GPU can tell.
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
        self.register_buffer("weight", conv.weight.detach().permute(2, 0, 1, 3, 4).contiguous())  # (3, C, 1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H', W')."""
        times = x.shape[2]
        frames = x.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W)
        before, same, after = (
            F.conv2d(frames, weight, stride=self.stride, padding=1, groups=self.channels).unflatten(0, (-1, times))
            for weight in self.weight
        )  # each (N, T, C, H', W')
        y = same + F.pad(before[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)) + F.pad(after[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        return y.transpose(1, 2)  # (N, T, C, H', W') -> (N, C, T, H', W')
