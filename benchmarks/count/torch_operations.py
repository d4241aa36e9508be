"""Arithmetic that is not a product, counted from the operators that PyTorch runs; on the meta device, so at no cost.

The rules are those of `dtfsal.export.graph.operation_counts`, which counts ONNX graphs.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dtfsal.export.graph.operation_counts import BATCH_NORM, BILINEAR, GELU, LAYER_NORM, SIGMOID, SOFTMAX

# What a value of the output costs, for pointwise operators made of several operations.
_POINTWISE = {"gelu": GELU, "sigmoid": SIGMOID, "clamp": 2, "hardtanh": 2}
_FREE = {"clone", "copy_", "_to_copy", "fill_", "zero_"}  # they move values and compute none


class OtherOperations(TorchDispatchMode):
    """Counts what runs within it.

    Attributes:
        by_operator: operations by operator of ATen.
        total: all of them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_operator: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All operations."""
        return sum(self.by_operator.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if number := _operations(name, func, args, output):
            self.by_operator[name] += number
        return output


def _operations(name: str, func: Any, args: tuple[Any, ...], output: Any) -> int:
    first = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(first, Tensor) or not first.is_floating_point() or name in _FREE:
        return 0
    rule = _RULES.get(name)
    if rule is not None:
        return rule(args, first)
    if torch.Tag.pointwise in func.tags:
        return _POINTWISE.get(name, 1) * first.numel()
    return 0


def _windows(args: tuple[Any, ...], y: Tensor) -> int:
    return y.numel() * math.prod(args[1])


def _scores(args: tuple[Any, ...], y: Tensor) -> int:
    del y
    query, key = args[:2]
    return SOFTMAX * math.prod(query.shape[:-1]) * int(key.shape[-2])


_RULES: dict[str, Callable[[tuple[Any, ...], Tensor], int]] = {
    "native_layer_norm": lambda _, y: LAYER_NORM * y.numel(),
    "native_batch_norm": lambda _, y: BATCH_NORM * y.numel(),
    "_softmax": lambda _, y: SOFTMAX * y.numel(),
    **dict.fromkeys(("mean", "sum", "amax"), lambda args, _: args[0].numel()),
    "upsample_bilinear2d": lambda _, y: BILINEAR * y.numel(),
    "upsample_linear1d": lambda _, y: 3 * y.numel(),
    "max_pool3d_with_indices": _windows,
    "max_pool2d_with_indices": _windows,
    "avg_pool2d": _windows,
    "avg_pool3d": _windows,
    "convolution": lambda args, y: y.numel() if args[2] is not None else 0,
    "addmm": lambda _, y: y.numel(),
    "_scaled_dot_product_flash_attention_for_cpu": _scores,
    "_scaled_dot_product_fused_attention_overrideable": _scores,
}
