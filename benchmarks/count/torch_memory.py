"""What a run in eager PyTorch holds and moves: activations that live at once, and the bytes of each part's operators.

A tensor's memory lives from the operator that makes it until Python lets go of it, so the peak is found by running the
model, and on the meta device that costs neither memory nor time. Views share memory and operators in place make none.
Weights and buffers stand apart. What an operator needs within itself (the packed matrices of a convolution, say) is not
seen, nor what an allocator rounds up.
"""

import dataclasses
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

REST = "rest"  # operators of the model's own `forward`, in none of its parts


@dataclasses.dataclass(frozen=True)
class TorchMemory:
    """What one run takes.

    Attributes:
        activation_peak_bytes: the most that inputs and tensors made on the way take at once, weights apart.
        peak_operator: of ATen, that made the tensor with which the peak was reached; "" if the inputs are the peak.
        peak_place: the module that ran it, e.g. "encoder.blocks.1.attn.qkv"; "" for the model itself.
        weight_bytes: of parameters and buffers.
        moved_bytes: by top-level part (and `REST`), what operators read and write, once each, weights included; views
            move nothing.
    """

    activation_peak_bytes: int
    peak_operator: str
    peak_place: str
    weight_bytes: int
    moved_bytes: Mapping[str, int]

    @property
    def total_moved_bytes(self) -> int:
        """Of all parts."""
        return sum(self.moved_bytes.values())


def torch_memory(model: nn.Module, inputs: tuple[Tensor, ...]) -> TorchMemory:
    """Run a model once, without gradients, and tell what that holds and moves.

    Args:
        model: on any device; on "meta" its attentions count as the CPU runs them, fused.
        inputs: on the same device. They are the caller's, and live throughout.
    """
    weights = {id(storage): storage for storage in _storages((*model.parameters(), *model.buffers()))}
    tracker = ModuleTracker()
    memory = _Memory(tracker, weights, inputs)
    with torch.no_grad(), FusedOnMeta(), tracker, memory:
        model(*inputs)
    return TorchMemory(
        memory.peak_bytes,
        memory.peak_operator,
        memory.peak_place,
        sum(storage.nbytes() for storage in weights.values()),
        dict(memory.moved),
    )


class _Memory(TorchDispatchMode):
    """Follows memory through the operators that run within it."""

    def __init__(
        self, tracker: ModuleTracker, weights: Mapping[int, torch.UntypedStorage], inputs: tuple[Tensor, ...]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self._tracker, self._weights = tracker, weights
        self._live: dict[int, int] = {}  # bytes by identity of a storage, which is one object as long as it lives
        self.moved: Counter[str] = Counter()
        self._hold(inputs)
        self.peak_bytes, self.peak_operator, self.peak_place = sum(self._live.values()), "", ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        read, made = _tensors((args, kwargs)), _tensors(output)
        self._hold(made)
        place = running_place(self._tracker)
        if (live := sum(self._live.values())) > self.peak_bytes:
            self.peak_bytes, self.peak_operator, self.peak_place = live, func._schema.name.removeprefix("aten::"), place
        if not _is_view(func, read, made):
            self.moved[part_of(place)] += sum(map(_bytes, (*read, *made)))
        return output

    def _hold(self, tensors: tuple[Tensor, ...]) -> None:
        for storage in _storages(tensors):
            key = id(storage)
            if key not in self._live and key not in self._weights:
                self._live[key] = storage.nbytes()
                weakref.finalize(storage, self._live.pop, key).atexit = False


def running_place(tracker: ModuleTracker) -> str:
    """The innermost module that runs, below the model; "" for the model itself."""
    names = [name.partition(".")[2] for name in tracker.parents if name != "Global"]
    return max(names, key=len, default="")


def part_of(place: str) -> str:
    """The top-level part that a place lies in, or `REST`."""
    return place.split(".")[0] or REST


class FusedOnMeta(TorchFunctionMode):
    """Attention on the meta device is one fused operator, as on the CPU, where meta would form the scores."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention and args[0].is_meta:
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return fused(*args[:3], scale=kwargs.get("scale"))[0]
        return func(*args, **kwargs)


def _tensors(tree: Any) -> tuple[Tensor, ...]:
    return tuple(leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _storages(tensors: tuple[Tensor, ...]) -> Iterator[torch.UntypedStorage]:
    return (tensor.untyped_storage() for tensor in tensors)


def _bytes(tensor: Tensor) -> int:
    """What is read of a tensor or written to it: an expanded one is no more than what it is expanded from."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _is_view(func: Any, read: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> bool:
    """Whether an operator only looks at memory in another way: it writes nothing, and gives back what it took."""
    taken = {id(storage) for storage in _storages(read)}
    return not func._schema.is_mutable and bool(made) and all(id(storage) in taken for storage in _storages(made))
