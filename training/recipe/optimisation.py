"""What every training stage shares: the step, its learning rates, the average of the weights, and memory."""

import contextlib
import copy
import ctypes
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)
# Stage, step from 1, steps, loss of the step.
Report = Callable[[str, int, int, float], None]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGE_BLOCK_BYTES = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with a cosine decay after a linear warm-up, gradients clipped, weights averaged.

    Attributes:
        learning_rate: at its peak, of what is trained from nothing.
        pretrained_learning_rate: of parts that start from trained weights.
        weight_decay: of matrices and kernels; vectors (biases, scales) have none.
        warmup: share of the steps.
        clip_norm: largest norm of the gradient.
        average: decay of the exponential moving average of the weights per step.
    """

    learning_rate: float = 1e-3
    pretrained_learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip_norm: float = 1.0
    average: float = 0.99


class Optimiser(Generic[ModelT]):
    """Steps a model by gradients, and keeps the moving average of its weights.

    Args:
        model: what the average is taken of, in whole.
        fresh: parameters trained from nothing.
        pretrained: parameters that start from trained weights.
        config: rates and decays.
        steps: how many steps there will be.
    """

    def __init__(
        self,
        model: ModelT,
        fresh: Iterable[nn.Parameter],
        pretrained: Iterable[nn.Parameter],
        config: OptimiserConfig,
        steps: int,
    ) -> None:
        self.config = config
        self.parameters = {"fresh": list(fresh), "pretrained": list(pretrained)}
        rates = {"fresh": config.learning_rate, "pretrained": config.pretrained_learning_rate}
        groups = []
        for kind, parameters in self.parameters.items():
            for decay in (config.weight_decay, 0.0):
                chosen = [p for p in parameters if (p.ndim > 1) == (decay > 0)]
                groups.append({"params": chosen, "lr": rates[kind], "weight_decay": decay})
        self._adam = torch.optim.AdamW([group for group in groups if group["params"]])
        self._rates = [group["lr"] for group in self._adam.param_groups]
        self._steps, self._warmup = steps, max(1, round(config.warmup * steps))
        self._model = model
        self.averaged: ModelT = copy.deepcopy(model).requires_grad_(False).eval()
        self._done = 0

    def step(self, loss: Tensor) -> None:
        """One step along the gradient of a scalar loss."""
        factor = cosine_rate(self._done, self._steps, self._warmup)
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        everything = [*self.parameters["fresh"], *self.parameters["pretrained"]]
        torch.nn.utils.clip_grad_norm_(everything, self.config.clip_norm)
        self._adam.step()
        self._done += 1
        update_average(self.averaged.state_dict(), self._model.state_dict(), self.config.average, self._done)

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name."""
        tensors = {f"model/{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"averaged/{name}": value for name, value in self.averaged.state_dict().items()}
        for name, parameter in self._model.named_parameters():
            for kind, value in self._adam.state.get(parameter, {}).items():
                tensors[f"adam.{kind}/{name}"] = value
        return {**tensors, "done": torch.tensor(self._done)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a state back; strictly, all of it."""
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        self._model.load_state_dict(parts["model"])
        self.averaged.load_state_dict(parts["averaged"])
        for name, parameter in self._model.named_parameters():
            kinds = (part for part in parts if part.startswith("adam.") and name in parts[part])
            state = {kind.removeprefix("adam."): parts[kind][name] for kind in kinds}
            if state:
                self._adam.state[parameter] = state
        self._done = int(tensors["done"])


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], state: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Move the average of a model's weights towards its state after a step, counted from 1; the rest is copied.

    Young averages forget faster, or the first weights would stay in them.
    """
    decay = min(decay, step / (step + 9))
    for name, value in average.items():
        if value.is_floating_point():
            value.lerp_(state[name], 1 - decay)
        else:
            value.copy_(state[name])


def cosine_rate(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate before step `step` (from 0): linear over `warmup` steps, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks for the next tensor of their size; elsewhere nothing happens.

    By default it gives large blocks back to the system, which clears them page by page at every use: half of a CPU
    forward pass of EfficientNet-Lite0 goes there (60 ms a frame instead of 19 ms, 2 cores).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK_BYTES)


def channels_last(module: nn.Module) -> None:
    """Store the kernels of 2-D convolutions channels last, which the CPU's depthwise convolutions prefer."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
