"""Modulated deformable 2-D convolution (DCNv2, Zhu et al. 2019) in PyTorch operations.

    y(p) = sum_k w_k m_k(p) x(p + p_k + offset_k(p)),

with x sampled bilinearly and zero outside. This is the definition that training differentiates, the `gather` lowering
that any exporter takes, and the reference for the other lowerings (ONNX DeformConv, our CUDA plugin).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dtfsal.training.model.precision import EnginePrecision, with_precision


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Deformable convolution, one group of channels and one of offsets.

    Coordinates are float32 or wider whatever the type of x: fp16 cannot tell neighbouring sub-pixel positions apart.

    Args:
        x: (N, C, H, W).
        offset: (N, 2*kh*kw, H', W'), in pixels, (y, x) for each kernel position in row-major order, as in ONNX
            DeformConv and torchvision.
        mask: (N, kh*kw, H', W') modulation, or None for ones.
        weight: (C', C, kh, kw).
        bias: (C',) or None.
        stride: of the output grid.
        padding: zeros on each side.
        dilation: spacing of the kernel's positions.

    Returns:
        (N, C', H', W').
    """
    _n, channels, height, width = x.shape
    _out_channels, _, kh, kw = weight.shape
    out_h, out_w = offset.shape[-2:]
    dtype = torch.promote_types(offset.dtype, torch.float32)

    # Sampling positions, (N, K, H'*W'), K = kh*kw
    def axis(size: int, factor: int) -> Tensor:
        return torch.arange(size, device=x.device, dtype=dtype) * factor

    grid_y = (axis(kh, dilation)[:, None, None, None] + axis(out_h, stride)[None, None, :, None] - padding).expand(
        kh, kw, out_h, out_w
    )
    grid_x = (axis(kw, dilation)[None, :, None, None] + axis(out_w, stride)[None, None, None, :] - padding).expand(
        kh, kw, out_h, out_w
    )
    moves = offset.to(dtype).unflatten(1, (kh * kw, 2)).flatten(3)  # (N, K, 2, H'*W')
    y = moves[:, :, 0] + grid_y.reshape(kh * kw, -1)
    x_ = moves[:, :, 1] + grid_x.reshape(kh * kw, -1)

    y0, x0 = y.floor(), x_.floor()
    fy, fx = y - y0, x_ - x0
    pixels = x.flatten(2)  # (N, C, H*W)
    columns: Tensor | None = None
    for row, weight_y in ((y0, 1 - fy), (y0 + 1, fy)):
        inside_y = (row >= 0) & (row <= height - 1)
        for column, weight_x in ((x0, 1 - fx), (x0 + 1, fx)):
            inside = inside_y & (column >= 0) & (column <= width - 1)
            index = torch.where(inside, row * width + column, 0).long().flatten(1)  # (N, K*H'*W')
            value = pixels.gather(2, index[:, None].expand(-1, channels, -1))  # (N, C, K*H'*W')
            share = (weight_y * weight_x * inside).flatten(1).to(x.dtype)
            term = value * share[:, None]
            columns = term if columns is None else columns + term
    assert columns is not None
    if mask is not None:
        columns = columns * mask.flatten(1)[:, None]
    columns = columns.unflatten(2, (kh * kw, out_h * out_w)).flatten(1, 2)  # (N, C*K, H'*W')
    result = (weight.flatten(1) @ columns).unflatten(2, (out_h, out_w))
    return result if bias is None else result + bias[:, None, None]


class ModulatedDeformConv2d(nn.Module):
    """A deformable convolution with offsets and modulation from a plain convolution of the same input.

    The offsets start at zero and the modulation at one half, so that it starts as half a plain convolution.
    `operator` is what exporters replace to choose a lowering; its signature is that of `deform_conv2d`.
    """

    engine_precision = EnginePrecision(float32_positions=True)

    def __init__(self, channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        taps = kernel_size**2
        self.taps, self.padding = taps, kernel_size // 2
        self.weight = nn.Parameter(torch.empty(out_channels, channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.offset_mask = with_precision(  # offsets are positions
            nn.Conv2d(channels, 3 * taps, kernel_size, padding=self.padding), int8=False
        )
        self.operator: Callable[..., Tensor] = deform_conv2d
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.offset_mask.weight)
        assert self.offset_mask.bias is not None
        nn.init.zeros_(self.offset_mask.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        offset, mask = self.offset_mask(x).split((2 * self.taps, self.taps), dim=1)
        return self.operator(x, offset, mask.sigmoid(), self.weight, self.bias, padding=self.padding)
