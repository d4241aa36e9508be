"""The forms that a model can be run in: PyTorch's, the engines that can be built, and engines that there are.

Which engines can be built is read from `dtfsal.export.request.FORMS`, so that a new target or precision is a new form.
"""

import abc
import dataclasses
import importlib.util
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dtfsal.benchmarks.count.flops import Form as FlopForm
from dtfsal.benchmarks.timing.form_process import FormProcess
from dtfsal.benchmarks.timing.form_worker import WorkerSpec
from dtfsal.engines import DYNAMIC, read_bundle
from dtfsal.engines.bundle.manifest import EngineTarget, Precision
from dtfsal.engines.errors import UsageError
from dtfsal.engines.gpu.driver import find_gpu_driver
from dtfsal.engines.onnx_runtime.engine import import_onnxruntime
from dtfsal.export.builder import build_engine
from dtfsal.export.request import FORMS as ENGINE_FORMS
from dtfsal.export.request import BuildRequest
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import save_weights

PLAIN = "eager plain"
COMPILERS = ("g++", "clang++", "c++")
DeviceKind = Literal["cpu", "cuda"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A back end as the tables have it: its title, the module that runs it, and the devices it runs on."""

    title: str
    module: str
    devices: tuple[DeviceKind, ...]


TARGETS: Mapping[str, Target] = {
    "onnxruntime": Target(title="ONNX Runtime", module="onnxruntime", devices=("cpu", "cuda")),
    "openvino": Target(title="OpenVINO", module="openvino", devices=("cpu",)),
    "tensorrt-rtx": Target(title="TensorRT-RTX", module="tensorrt_rtx", devices=("cuda",)),
    "tensorrt": Target(title="TensorRT", module="tensorrt", devices=("cuda",)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What every form is to run.

    Attributes:
        config: the model's.
        weights: its weights file.
        folder: where engines, inputs and maps go.
        batch_size: windows at once.
        threads: CPU threads.
        largest_batch: has engines take any batch size up to this; None for `batch_size` alone.
    """

    config: ModelConfig
    weights: Path
    folder: Path
    batch_size: int
    threads: int
    largest_batch: int | None = None

    @property
    def inputs(self) -> Path:
        """The npz of one synthetic window, repeated for the batch; it is written when first asked for."""
        clip = self.config.clip
        path = self.folder / f"inputs-{clip.frames}x{clip.height}x{clip.width}-{self.batch_size}.npz"
        if not path.exists():
            window = next(iter(synthetic_windows(self.config, 1)))
            arrays: dict[str, Any] = {name: np.repeat(value, self.batch_size, axis=0) for name, value in window.items()}
            np.savez(path, **arrays)
        return path


def seeded_weights(config: ModelConfig, folder: Path) -> Path:
    """A file of random but not degenerate weights for a configuration, the same ones for the same configuration."""
    clip = config.clip
    path = folder / f"{config.name}-{clip.frames}x{clip.height}x{clip.width}.safetensors"
    if not path.exists():
        save_weights(seeded_model(config), path)
    return path


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A form whose files are there.

    Attributes:
        spec: for its worker.
        build_seconds: what building its engine took; None where nothing was built.
        size_bytes: of its engine's files, or of the weights.
    """

    spec: WorkerSpec
    build_seconds: float | None
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class AnyForm(abc.ABC):
    """A way to run a model.

    Attributes:
        name: as tables have it.
        device: that it runs on.
        precision: of its arithmetic.
        flops: which count of operations is its own; see `dtfsal.benchmarks.count.flops`.
    """

    name: str
    device: DeviceKind
    precision: str
    flops: FlopForm

    @abc.abstractmethod
    def lacks(self) -> str | None:
        """What the machine lacks for it, in words; None if it can be tried. Nothing heavy is imported to find out."""

    @abc.abstractmethod
    def prepare(self, workload: Workload) -> Prepared:
        """Make the files that its worker needs.

        Raises:
            DtfsalError: the form cannot run the workload.
        """

    def open(self, prepared: Prepared, folder: Path) -> FormProcess:
        """The form's process, to be entered; compilers start with an empty cache, which lies in the folder."""
        scratch = folder / f"cache-{self.name.replace(' ', '-')}"
        environment = {
            "TORCHINDUCTOR_CACHE_DIR": str(scratch),
            "TORCHINDUCTOR_COMPILE_THREADS": str(prepared.spec.threads),
        }
        return FormProcess(prepared.spec, Path(prepared.spec.maps).with_suffix(".log"), environment)

    def maps(self, workload: Workload) -> Path:
        """Where the form's maps of a workload go."""
        return workload.folder / f"{workload.inputs.stem}-{workload.threads}-{self.name.replace(' ', '-')}.npy"


@dataclasses.dataclass(frozen=True)
class TorchForm(AnyForm):
    """PyTorch on the CPU: as written, with the exact rewrites, or these compiled."""

    compiled: bool = False

    def lacks(self) -> str | None:
        """See `AnyForm`."""
        if self.compiled and not any(map(shutil.which, COMPILERS)):
            return "torch.compile needs a C++ compiler: install g++"
        return None

    def prepare(self, workload: Workload) -> Prepared:
        """See `AnyForm`."""
        spec = WorkerSpec(
            imports=("torch", "dtfsal.benchmarks.count.plain", "dtfsal.training.model.weights"),
            inputs=str(workload.inputs),
            maps=str(self.maps(workload)),
            threads=workload.threads,
            weights=str(workload.weights),
            written=self.flops == "written",
            compiled=self.compiled,
        )
        return Prepared(spec, None, workload.weights.stat().st_size)


@dataclasses.dataclass(frozen=True)
class BuiltForm(AnyForm):
    """An engine that is built for the measurement.

    Attributes:
        target: the back end.
        engine_precision: the engine's.
        cpu_kernels: with the custom CPU operators.
    """

    target: EngineTarget
    engine_precision: Precision
    cpu_kernels: bool = False

    def lacks(self) -> str | None:
        """See `AnyForm`."""
        return lacking(self.target, self.device) or (
            "the custom CPU operators need a C++ compiler: install g++"
            if self.cpu_kernels and not any(map(shutil.which, COMPILERS))
            else None
        )

    def prepare(self, workload: Workload) -> Prepared:
        """See `AnyForm`; forms of the same engine on several devices build it once, for the first of them."""
        kind = f"{self.target}-{self.engine_precision}{'-kernels' * self.cpu_kernels}"
        clip, batch = workload.config.clip, workload.largest_batch or workload.batch_size
        bundle = workload.folder / f"{clip.frames}x{clip.height}x{clip.width}-{batch}-{kind}.engine"
        seconds = None
        if not bundle.exists():
            started = time.perf_counter()
            build_engine(
                BuildRequest(
                    output=bundle,
                    target=self.target,
                    precision=self.engine_precision,
                    weights=workload.weights,
                    batch_size=workload.batch_size,
                    max_batch_size=workload.largest_batch,
                    graphs="window",
                    cpu_kernels=self.cpu_kernels,
                )
            )
            seconds = time.perf_counter() - started
        return bundle_prepared(self, bundle, workload, seconds)


@dataclasses.dataclass(frozen=True)
class BundleForm(AnyForm):
    """An engine that exists.

    Attributes:
        bundle: its folder, by whose name the form goes.
        trust: run native code that it brings.
    """

    bundle: Path
    trust: bool = False

    def lacks(self) -> str | None:
        """See `AnyForm`."""
        return lacking(read_bundle(self.bundle, verify=False).manifest.target, self.device)

    def prepare(self, workload: Workload) -> Prepared:
        """See `AnyForm`.

        Raises:
            UsageError: the engine is for another clip, frame size, sound or batch size.
        """
        manifest = read_bundle(self.bundle).manifest
        clip, wanted = manifest.clip, workload.config.clip
        ours, theirs = (
            f"{spec.frames}x{spec.height}x{spec.width} {'with' if sound else 'without'} sound"
            for spec, sound in ((clip, manifest.audio), (wanted, workload.config.audio))
        )
        if ours != theirs:
            raise UsageError(
                f"{self.bundle.name} is for clips of {ours}, not {theirs}: leave it out, or measure its own"
            )
        batch = manifest.graphs["window"].inputs[0].shape[0] if "window" in manifest.graphs else 1
        if batch not in (DYNAMIC, workload.batch_size):
            raise UsageError(f"{self.bundle.name} runs {batch} windows at once, not {workload.batch_size}")
        return bundle_prepared(self, self.bundle, workload, None, trust=self.trust)


def bundle_prepared(
    form: AnyForm, bundle: Path, workload: Workload, build_seconds: float | None, *, trust: bool = False
) -> Prepared:
    """An engine that is there, ready for its worker."""
    manifest = read_bundle(bundle, verify=False).manifest
    spec = WorkerSpec(
        imports=(TARGETS[manifest.target].module,) if manifest.target in TARGETS else (),
        inputs=str(workload.inputs),
        maps=str(form.maps(workload)),
        threads=workload.threads,
        bundle=str(bundle.resolve()),
        device=form.device,
        trust=trust,
    )
    return Prepared(spec, build_seconds, manifest.size_bytes)


def lacking(target: str, device: DeviceKind) -> str | None:
    """What the machine lacks for a back end on a device; None if nothing that can be seen without starting it."""
    title, module = (TARGETS[target].title, TARGETS[target].module) if target in TARGETS else (target, target)
    if importlib.util.find_spec(module) is None:
        return f"{title} is not installed"
    if device == "cuda":
        driver = find_gpu_driver()
        if not driver.gpus:
            return f"needs an NVIDIA GPU: {driver.problem}"
        if target == "onnxruntime" and "CUDAExecutionProvider" not in import_onnxruntime().get_available_providers():
            return "this ONNX Runtime has no CUDA: install onnxruntime-gpu instead of onnxruntime"
    return None


def known_forms() -> list[AnyForm]:
    """Every form that there is without an engine of the user's, whatever this machine has."""
    forms: list[AnyForm] = [
        TorchForm(PLAIN, "cpu", "fp32", "written"),
        TorchForm("eager", "cpu", "fp32", "deployed"),
        TorchForm("torch.compile", "cpu", "fp32", "deployed", compiled=True),
    ]
    for target, precisions in ENGINE_FORMS.items():
        known = TARGETS.get(target) or Target(title=target, module=target, devices=("cpu",))
        for device in known.devices:
            # A back end that runs on either names the GPU; one that runs on one device need not.
            title = f"{known.title} CUDA" if device == "cuda" and len(known.devices) > 1 else known.title
            forms += [
                BuiltForm(f"{title} {precision}", device, precision, "deployed", target, precision)
                for precision in precisions
            ]
    own = BuiltForm("ONNX Runtime own kernels fp32", "cpu", "fp32", "deployed", "onnxruntime", "fp32", cpu_kernels=True)
    return [*forms, own]


def engine_form(bundle: Path, device: DeviceKind | None = None, *, trust: bool = False) -> BundleForm:
    """The form of an engine that exists, by its folder's name.

    Args:
        bundle: its folder.
        device: that is to run it; None for the CPU if its back end runs there.
        trust: run native code that it brings.

    Raises:
        EngineError: it is not an engine.
    """
    manifest = read_bundle(bundle, verify=False).manifest
    devices = TARGETS[manifest.target].devices if manifest.target in TARGETS else ("cpu",)
    name = bundle.resolve().name
    return BundleForm(name, device or devices[0], manifest.precision, "deployed", bundle, trust)


def choose_forms(names: Sequence[str], bundles: Sequence[Path] = (), *, trust: bool = False) -> list[AnyForm]:
    """The forms of those names and of those engines, all known ones if neither is given; `trust` as `engine_form`.

    Raises:
        UsageError: there is no such form, or two have the same name.
        EngineError: a folder is no engine.
    """
    known = {form.name: form for form in known_forms()}
    if wrong := [name for name in names if name not in known]:
        raise UsageError(f"there is no form {wrong[0]!r}; choose among {', '.join(known)}")
    chosen = [known[name] for name in names] + [engine_form(bundle, trust=trust) for bundle in bundles]
    chosen = chosen or list(known.values())
    doubled = [form.name for i, form in enumerate(chosen) if form.name in [other.name for other in chosen[:i]]]
    if doubled:
        raise UsageError(f"{doubled[0]!r} is there twice: give each form once, and engines folders of different names")
    return chosen
