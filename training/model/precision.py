"""What a module asks of engines that compute in less than float32. Training takes no notice of it.

A class of ours says it for all its instances, `engine_precision = EnginePrecision(int8=False)`. A layer of PyTorch's
says it where it is made, `self.qkv = with_precision(nn.Linear(...), int8=False)`. Export reads both by the modules'
places in the model, so a module keeps its precision when it is renamed or moved.
"""

import dataclasses
from typing import TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnginePrecision:
    """What a module asks for.

    Attributes:
        int8: whether it, and every module inside it, may compute in 8-bit integers.
        float32_positions: its own arithmetic on sampling positions stays float32; its arithmetic on features need not.
        float32_after: all that is computed from its result stays float32; the module itself need not.
    """

    int8: bool = True
    float32_positions: bool = False
    float32_after: bool = False


def with_precision(module: AnyModule, *, int8: bool = True, float32_after: bool = False) -> AnyModule:
    """The same module, which now asks for this; see `EnginePrecision`."""
    module.engine_precision = EnginePrecision(int8=int8, float32_after=float32_after)  # type: ignore[assignment]
    return module


def declared_precisions(model: nn.Module) -> dict[str, EnginePrecision]:
    """What the modules of a model ask for, by their places (`decoders.0.predict`); others are left out.

    Raises:
        TypeError: a module's `engine_precision` is not an `EnginePrecision`.
    """
    found: dict[str, EnginePrecision] = {}
    for place, module in model.named_modules():
        precision = getattr(module, "engine_precision", EnginePrecision())
        if not isinstance(precision, EnginePrecision):
            raise TypeError(f"{type(module).__name__}.engine_precision must be an EnginePrecision, not {precision!r}")
        if precision != EnginePrecision():
            found[place] = precision
    return found
