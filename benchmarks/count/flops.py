"""Parameters and FLOPs of a model, part by part, in the paper's convention and truly.

What the paper calls FLOPs (Table 2) are multiply-accumulates of convolutions and linear layers, as a counter that
hooks modules sees them: attention's products are in no module and are left out. `true_flops` counts two operations
per multiply-accumulate, attention's products included; the arithmetic beside products (normalisation, activations,
softmax, resizing, sampling) is counted from the operators that really run and stands apart, so that rates in GFLOP/s
are those of products. A model has two counts, that of its equations as they are written and that of what is computed;
the paper's figures stand beside both. Counting runs on the meta device: no memory, no time.
"""

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from dtfsal.benchmarks.count.plain import plain
from dtfsal.benchmarks.count.torch_memory import FusedOnMeta, TorchMemory, part_of, running_place, torch_memory
from dtfsal.benchmarks.count.torch_operations import OtherOperations
from dtfsal.export.graph.parts import window_part
from dtfsal.training.model.audio import TemporalEnhancement
from dtfsal.training.model.blocks import LTEB, TemporalConv
from dtfsal.training.model.config import ModelConfig, resolve_config
from dtfsal.training.model.deform_conv import ModulatedDeformConv2d
from dtfsal.training.model.encoders.mvit import MultiscaleAttention
from dtfsal.training.model.network import DTFSal, build_model

Form = Literal["deployed", "written"]
FORMS: tuple[Form, ...] = get_args(Form)
GFLOPS = "GFLOPs as the paper counts"


@dataclasses.dataclass(frozen=True)
class Cost:
    """One part of a model.

    Attributes:
        parameters: trainable values.
        macs: multiply-accumulates of convolutions and linear layers, the paper's "FLOPs".
        attention_macs: multiply-accumulates of Q K^T and A V.
        position_macs: multiply-accumulates of the relative positions, q R.
        other_operations: arithmetic beside products, of the operators that run; see
            `dtfsal.export.graph.operation_counts`.
    """

    parameters: int = 0
    macs: int = 0
    attention_macs: int = 0
    position_macs: int = 0
    other_operations: int = 0

    @property
    def true_flops(self) -> int:
        """Two operations for each multiply-accumulate of any kind; other operations are counted apart."""
        return 2 * (self.macs + self.attention_macs + self.position_macs)


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A model's row of the paper's Tables 1 and 2."""

    parameters_millions: float
    size_mib: float
    gflops: float


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of the paper's Table 2: input (width, height), GFLOPs as counted there (None: not given), size in MB."""

    model: str
    kind: Literal["visual", "audio-visual"]
    input_size: tuple[int, int]
    gflops: float | None
    size_mb: float


PAPER_TABLE_2 = (
    TableRow("DeepVS", "visual", (448, 448), 819.5, 344),
    TableRow("STRA-Net", "visual", (256, 224), 55, 324),
    TableRow("TASED-Net", "visual", (256, 224), 91.5, 82),
    TableRow("UNISAL", "visual", (288, 224), 14.4, 146),
    TableRow("HD2S", "visual", (192, 128), 22, 155),
    TableRow("ViNet", "visual", (192, 128), 115, 152),
    TableRow("STSA-Net", "visual", (384, 224), 493, 245),
    TableRow("TMFI-Net", "visual", (384, 224), 358, 234),
    TableRow("THTD-Net", "visual", (384, 224), None, 220),
    TableRow("TM2SP-Net", "visual", (384, 224), 1330, 700),
    TableRow("ViNet-E", "visual", (384, 224), None, 183.84),
    TableRow("HSFI-Net", "visual", (384, 224), None, 253),
    TableRow("DTFSal(V)", "visual", (384, 224), 259.57, 155.37),
    TableRow("ACLNet", "audio-visual", (224, 224), 164, 250),
    TableRow("TSFP-Net", "audio-visual", (352, 192), 316, 192),
    TableRow("STAViS", "audio-visual", (384, 224), 15.31, 79.19),
    TableRow("CASP-Net", "audio-visual", (384, 224), 283.35, 196.91),
    TableRow("DiffSal", "audio-visual", (384, 224), 834, 351),
    TableRow("DTFSal", "audio-visual", (384, 224), 297.91, 187.26),
)
PAPER_DECODERS_MILLIONS = 1.74  # Table 5, the four decoders of either model
PAPER_ROWS = {
    "dtfsal-v": PaperRow(40.73, 155.37, 259.57),
    "dtfsal": PaperRow(49.08, 187.26, 297.91),
}


@dataclasses.dataclass(frozen=True)
class FlopReport:
    """What a model costs.

    Attributes:
        model: its name.
        form: `deployed` is what an engine runs: token maps are constants, and the decoders' taps that meet no time are
            left out. `written` is the definitional form: eq. 7's convolution once for each time, and the decoders'
            convolutions in 3-D. The paper does not say which it counted; see `beside_paper`.
        parts: by the model's top-level parts, in order.
        rest_operations: arithmetic beside products in none of the parts, but in the model's own `forward`.
    """

    model: str
    form: Form
    parts: dict[str, Cost]
    rest_operations: int = 0

    @property
    def total(self) -> Cost:
        """The sum of the parts."""
        columns = zip(*(dataclasses.astuple(part) for part in self.parts.values()), strict=True)
        return Cost(*(sum(column) for column in columns))

    @property
    def other_operations(self) -> int:
        """Arithmetic beside products, of the whole model."""
        return self.total.other_operations + self.rest_operations

    @property
    def size_mib(self) -> float:
        """Of the parameters in fp32."""
        return self.total.parameters * 4 / 2**20

    def to_dict(self) -> dict[str, Any]:
        """JSON types: counts in units, and the paper's row where it has one."""
        paper = PAPER_ROWS.get(self.model)
        rows = {**self.parts, "total": self.total}
        return {
            "model": self.model,
            "form": self.form,
            "size_mib": self.size_mib,
            "other_operations": self.other_operations,
            "parts": {name: {**dataclasses.asdict(cost), "true_flops": cost.true_flops} for name, cost in rows.items()},
            "paper": paper and {**dataclasses.asdict(paper), "decoder_parameters_millions": PAPER_DECODERS_MILLIONS},
        }


@dataclasses.dataclass(frozen=True)
class BesidePaper:
    """A figure of the paper, and ours in both forms.

    Attributes:
        what: the figure, and its unit.
        paper: None where the paper does not state it.
        written: of the equations as they are written.
        deployed: of what is computed here.
    """

    what: str
    paper: float | None
    written: float
    deployed: float

    def deviation_percent(self) -> dict[Form, float] | None:
        """How much more than the paper's ours are, by form; None where the paper states nothing."""
        if self.paper is None:
            return None
        ours: dict[Form, float] = {"written": self.written, "deployed": self.deployed}
        return {form: 100 * (figure / self.paper - 1) for form, figure in ours.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {**dataclasses.asdict(self), "deviation_percent": self.deviation_percent()}


def count(preset_or_config: str | ModelConfig, *, form: Form = "deployed", batch_size: int = 1) -> FlopReport:
    """Count a model's parameters and operations for one window.

    Args:
        preset_or_config: as `build_model`.
        form: see `FlopReport`.
        batch_size: windows.
    """
    config = resolve_config(preset_or_config)
    model, inputs = _on_meta(config, form, batch_size)
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    counters = {name: _count_modules(part) for name, part in model.named_children()}
    tracker = ModuleTracker()
    with torch.no_grad(), FusedOnMeta(), tracker, _OtherByPart(tracker) as other:
        model(*inputs)
    parts = {
        name: Cost(parameters[name], counter["module"], counter["attention"], counter["position"], other.parts[name])
        for name, counter in counters.items()
    }
    return FlopReport(config.name, form, parts, other.total - sum(other.parts[name] for name in parts))


def count_forms(preset_or_config: str | ModelConfig) -> dict[Form, FlopReport]:
    """Count a model in each form."""
    return {form: count(preset_or_config, form=form) for form in FORMS}


def beside_paper(forms: Mapping[Form, FlopReport]) -> list[BesidePaper]:
    """What the paper states of a model, and ours; the paper's is None throughout for a model that it does not have.

    Args:
        forms: from `count_forms`.
    """
    written, deployed = forms["written"], forms["deployed"]
    paper = PAPER_ROWS.get(written.model)
    millions, size, gflops = (None, None, None) if paper is None else dataclasses.astuple(paper)
    figures: list[tuple[str, float | None, Callable[[FlopReport], float]]] = [
        ("parameters, M", millions, lambda report: report.total.parameters / 1e6),
        ("size in fp32, MiB", size, lambda report: report.size_mib),
        (GFLOPS, gflops, lambda report: report.total.macs / 1e9),
        ("true GFLOP of products, attention's included", None, lambda report: report.total.true_flops / 1e9),
    ]
    if paper is not None:
        decoders = "four decoders' parameters, M"
        figures.insert(1, (decoders, PAPER_DECODERS_MILLIONS, lambda report: report.parts["decoders"].parameters / 1e6))
    return [BesidePaper(what, theirs, ours(written), ours(deployed)) for what, theirs, ours in figures]


def macs_of_one_token_map(forms: Mapping[Form, FlopReport], times: int) -> float:
    """Multiply-accumulates of the equations if E(t) of eq. 5 is an average over time, too: eq. 7 then runs once.

    Args:
        forms: from `count_forms`; the two differ by eq. 7's convolution in the part `enhance`.
        times: T', how often that runs otherwise.
    """
    token_maps = forms["written"].parts["enhance"].macs - forms["deployed"].parts["enhance"].macs
    return forms["written"].total.macs - token_maps * (times - 1) / times


def memory(preset_or_config: str | ModelConfig, *, form: Form = "deployed", batch_size: int = 1) -> TorchMemory:
    """What a run in eager PyTorch on the CPU holds at once and moves; arguments as `count`."""
    return torch_memory(*_on_meta(resolve_config(preset_or_config), form, batch_size))


def _on_meta(config: ModelConfig, form: Form, batch_size: int) -> tuple[DTFSal, tuple[Tensor, ...]]:
    """The model in a form, and what it takes."""
    with torch.device("meta"):
        model = build_model(config).eval()
        model = plain(model) if form == "written" else _deployed(model)
        return model, tuple(tensor.to("meta") for tensor in window_part(config, batch_size).example_inputs())


class _OtherByPart(OtherOperations):
    """Counts by top-level part, too."""

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self.parts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self.total
        output = super().__torch_dispatch__(func, types, args, kwargs)
        self.parts[part_of(running_place(self._tracker))] += self.total - before
        return output


def _deployed(model: DTFSal) -> DTFSal:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, LTEB):
            module.fold_tokens()
    return model


def _count_modules(part: nn.Module) -> Counter[str]:
    """Hook every counted module of a part; the counter fills when the model runs."""
    counter: Counter[str] = Counter()

    def add(kind: str, number: Callable[..., int]) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            counter[kind] += number(module, inputs, output)

        return hook

    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | ModulatedDeformConv2d):
            module.register_forward_hook(add("module", _convolution_macs))
        elif isinstance(module, nn.Linear):
            module.register_forward_hook(add("module", lambda layer, _, y: y.numel() * layer.in_features))
        elif isinstance(module, TemporalConv):
            module.register_forward_hook(add("module", _temporal_macs))
        elif isinstance(module, MultiscaleAttention):
            module.attend = _counting_attend(module.attend, counter)
        elif isinstance(module, TemporalEnhancement):
            module.attend = _counting_attention(module.attend, counter)
    return counter


def _convolution_macs(module: Any, _: tuple[Any, ...], output: Tensor) -> int:
    """Each output value takes one multiply-accumulate per weight of its channel."""
    return output.numel() * math.prod(module.weight.shape[1:])


def _temporal_macs(module: TemporalConv, inputs: tuple[Any, ...], output: Tensor) -> int:
    times = inputs[1]
    taps = len(module.taps(times)) if module.operator.__name__ == "convolve_in_2d" else 3
    return output.numel() * module.weight.shape[1] * taps * 9


def _counting_attend(attend: Callable[..., Tensor], counter: Counter[str]) -> Callable[..., Tensor]:
    def counting(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor], coordinates: Tensor) -> Tensor:
        batch, heads, queries, head_dim = q.shape
        counter["attention"] += batch * heads * queries * k.shape[2] * (head_dim + v.shape[3])
        counter["position"] += sum(bias.numel() for bias in biases) * head_dim
        if attend.__name__ != "attend_with_bias":  # the positions are part of the inner product
            counter["position"] += batch * heads * queries * k.shape[2] * coordinates.shape[1]
        return attend(q, k, v, biases, coordinates)

    return counting


def _counting_attention(attend: Callable[..., Tensor], counter: Counter[str]) -> Callable[..., Tensor]:
    def counting(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        counter["attention"] += q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * (q.shape[3] + v.shape[3])
        return attend(q, k, v)

    return counting
