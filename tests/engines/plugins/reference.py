"""Deformable convolution by its definition, in float64, one output position and tap at a time."""

import itertools
import math

import numpy as np


def deform_conv2d(x, weight, offset, mask, bias, *, stride, padding, dilation, groups, offset_groups):
    """x (N, C, H, W), weight (C', C/groups, kh, kw), as torchvision and ONNX have them; returns (N, C', H', W')."""
    x, weight, offset = (np.asarray(a, np.float64) for a in (x, weight, offset))
    batch, channels, height, width = x.shape
    out_channels, _, kh, kw = weight.shape
    out_h, out_w = offset.shape[2:]
    taps, shared = kh * kw, channels // offset_groups
    columns = np.zeros((batch, channels, taps, out_h, out_w))
    for n, g, tap, row, column in itertools.product(
        range(batch), range(offset_groups), range(taps), range(out_h), range(out_w)
    ):
        channel = g * taps + tap
        y = row * stride[0] - padding[0] + tap // kw * dilation[0] + offset[n, 2 * channel, row, column]
        z = column * stride[1] - padding[1] + tap % kw * dilation[1] + offset[n, 2 * channel + 1, row, column]
        values = np.zeros(shared)
        for i, j in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(z), math.floor(z) + 1)):
            if 0 <= i < height and 0 <= j < width:
                values += (1 - abs(y - i)) * (1 - abs(z - j)) * x[n, g * shared : (g + 1) * shared, i, j]
        modulation = 1.0 if mask is None else float(mask[n, channel, row, column])
        columns[n, g * shared : (g + 1) * shared, tap, row, column] = modulation * values
    grouped = columns.reshape(batch, groups, channels // groups, taps, out_h, out_w)
    kernels = weight.reshape(groups, out_channels // groups, channels // groups, taps)
    result = np.einsum("ngcthw,gkct->ngkhw", grouped, kernels).reshape(batch, out_channels, out_h, out_w)
    return result if bias is None else result + np.asarray(bias, np.float64)[:, None, None]
