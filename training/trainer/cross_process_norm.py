"""Batch normalisation over all processes' batches, so that two processes train as one with both their windows does.

PyTorch's SyncBatchNorm is for GPUs alone; this is the same in operators that every device has.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum of all processes' tensors; every process's loss depends on it, so gradients are summed, too."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        result = x.clone()
        torch.distributed.all_reduce(result)
        return result

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(None, gradient)


def _summed(x: Tensor) -> Tensor:
    return _Sum.apply(x)  # type: ignore[no-untyped-call]


class _CrossProcess(nn.BatchNorm2d):
    """A batch normalisation whose statistics in training are those of all processes' batches, as if they were one."""

    def _check_input_dim(self, _x: Tensor) -> None:
        """Whatever the number of axes."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        if not (self.training and several):
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        wide = x.float()
        count = wide.new_full((1,), float(wide.numel() // wide.shape[1]))
        # Two passes: the mean of squares minus the squared mean loses what a float32 holds.
        others, column = (0, *range(2, wide.ndim)), (-1, *(1,) * (wide.ndim - 2))
        total = _summed(torch.cat((wide.sum(others), count)))
        count = total[-1:].detach()
        mean = total[:-1] / count
        centred = wide - mean.view(column)
        variance = _summed(centred.square().sum(others)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale.view(column) + self.bias.view(column)).to(x.dtype)


class CrossProcessBatchNorm2d(_CrossProcess):
    """Of (N, C, H, W)."""


class CrossProcessBatchNorm3d(_CrossProcess):
    """Of (N, C, T, H, W)."""


def across_processes(model: nn.Module) -> None:
    """Make a model's batch normalisations those above; weights and names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = CrossProcessBatchNorm2d
        elif type(module) is nn.BatchNorm3d:
            module.__class__ = CrossProcessBatchNorm3d  # type: ignore[assignment]
