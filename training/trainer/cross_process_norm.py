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


class CrossProcessBatchNorm2d(nn.BatchNorm2d):
    """A `BatchNorm2d` whose statistics in training are those of all processes' batches, as if they were one."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        if not (self.training and several):
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        wide = x.float()
        count = wide.new_full((1,), float(wide.numel() // wide.shape[1]))
        # Two passes: the mean of squares minus the squared mean loses what a float32 holds.
        total = _summed(torch.cat((wide.sum((0, 2, 3)), count)))
        count = total[-1:].detach()
        mean = total[:-1] / count
        centred = wide - mean[:, None, None]
        variance = _summed(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def across_processes(model: nn.Module) -> None:
    """Make a model's batch normalisations those above; weights and names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = CrossProcessBatchNorm2d
