"""An engine whose maps are known in closed form, for tests that need one that runs and not one that knows anything."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from dtfsal.engines import AudioSpec, ClipSpec, GraphSpec, Manifest, TensorSpec, write_bundle

# No example is timed, since the machine may be busy. The same examples come each time, so that a change is judged by
# what it changes; `make test-slow` looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None)
settings.load_profile(os.environ.get("DTFSAL_EXAMPLES", "fixed"))

# Before any test imports ONNX Runtime by itself: its telemetry's threads look a host up all through the run.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# What a contributor runs on each save: no export, no compiler, no subprocess that imports PyTorch.
QUICK = (
    "engines/bundle",
    "engines/cpu",
    "engines/onnx_runtime",
    "runtime/frontend",
    "runtime/predict",
    "runtime/sinks",
    "training/data",
    "training/evaluation/test_metrics.py",
    "training/model",
    "test_architecture.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the core's tests `quick`."""
    root = Path(__file__).parent
    for item in items:
        if item.path.relative_to(root).as_posix().startswith(QUICK):
            item.add_marker(pytest.mark.quick)


TOY_TAP_WEIGHTS = (0.1, 0.2, 0.4, 0.3)
TOY_CLIP = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
TOY_AUDIO = AudioSpec(slices=9, height=12, width=20)


def _write_toy_engine(folder: Path, clip: ClipSpec, audio: AudioSpec | None, weights: str = "none") -> Path:
    """An engine in closed form.

    With grey_k in [0, 1] the mean of tap k's channels: map = 0.25 + 0.5 * sum_k w_k grey_k + 0.05 * mean(log-mel),
    clipped to [0, 1]; a visual one has no last term.
    """
    from onnx import TensorProto, helper, numpy_helper

    taps = np.array(TOY_TAP_WEIGHTS, np.float32).reshape(1, -1, 1, 1)
    shape = [3, clip.frames, clip.height, clip.width]
    nodes = [
        helper.make_node("Mul", ["video", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["rgb"]),
        helper.make_node("ReduceMean", ["rgb", "one"], ["grey"], keepdims=0),  # (B, T, H, W)
        helper.make_node("Mul", ["grey", "taps"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["seen"], keepdims=1),  # (B, 1, H, W)
    ]
    constants = {
        "std": np.array(clip.std, np.float32).reshape(1, 3, 1, 1, 1),
        "mean": np.array(clip.mean, np.float32).reshape(1, 3, 1, 1, 1),
        "one": np.array([1]),
        "taps": 0.5 * taps,
        "quarter": np.float32(0.25),
        "zero": np.float32(0),
        "unit": np.float32(1),
    }
    inputs = [helper.make_tensor_value_info("video", TensorProto.FLOAT, ["batch", *shape])]
    specs = [TensorSpec("video", "float32", (-1, *shape), description="normalised RGB")]
    seen = "seen"
    if audio is not None:
        sound = [audio.slices, 1, audio.height, audio.width]
        nodes += [
            helper.make_node("ReduceMean", ["audio", "sound_axes"], ["level"], keepdims=0),  # (B,)
            helper.make_node("Reshape", ["level", "column"], ["level4"]),
            helper.make_node("Mul", ["level4", "share"], ["heard"]),
            helper.make_node("Add", ["seen", "heard"], ["both"]),
        ]
        constants |= {
            "sound_axes": np.array([1, 2, 3, 4]),
            "column": np.array([-1, 1, 1, 1]),
            "share": np.float32(0.05),
        }
        inputs.append(helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["batch", *sound]))
        specs.append(TensorSpec("audio", "float32", (-1, *sound), description="log-mel"))
        seen = "both"
    nodes += [
        helper.make_node("Add", [seen, "quarter"], ["raised"]),
        helper.make_node("Clip", ["raised", "zero", "unit"], ["saliency_map"]),
    ]
    out = [1, clip.height, clip.width]
    graph = helper.make_graph(
        nodes,
        "toy",
        inputs,
        [helper.make_tensor_value_info("saliency_map", TensorProto.FLOAT, ["batch", *out])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    source = folder.with_suffix(".onnx")
    source.write_bytes(model.SerializeToString())
    manifest = Manifest(
        model_name="toy",
        model_config={},
        weights={"source": weights, "sha256": None},
        clip=clip,
        audio=audio,
        graphs={
            "window": GraphSpec(
                "model.onnx", tuple(specs), (TensorSpec("saliency_map", "float32", (-1, *out), 0.0, 1.0),)
            )
        },
        target="onnxruntime",
        precision="fp32",
        deform_conv="none",
        builder="onnx.helper",
        builder_version="1",
        created_by="dtfsal tests",
    )
    write_bundle(folder, manifest, {"model.onnx": source})
    return folder


@pytest.fixture(scope="session")
def need_programs():
    """Skip without the programs, unless the environment says that they must be there."""

    def need(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing and not os.environ.get("DTFSAL_REQUIRE_COMPILERS"):
            pytest.skip(f"needs {', '.join(missing)}")
        assert not missing, f"DTFSAL_REQUIRE_COMPILERS is set, and {missing} is not on PATH"

    return need


# What a process may open for writing beside its output.
_NO_FILE = re.compile(r"/dev/|/proc/|pipe:|/(var/lib|run)/.*uuid")  # the last is libuuid, of Python's uuid


@pytest.fixture(scope="session")
def watch(tmp_path_factory: pytest.TempPathFactory, need_programs) -> Path:
    """A library that writes what a program asks of the network and which files it opens for writing."""
    need_programs("cc")
    library = tmp_path_factory.mktemp("watch") / "watch.so"
    source = Path(__file__).with_name("watch.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def watched(watch, tmp_path: Path):
    """Run a program in an empty home; give what it asked of the network, and the files that it wrote.

    Files in its folder for temporary files, which is its own, do not count.
    """

    def run(*command, **environment) -> tuple[set[str], set[Path]]:
        log, home, temporary = tmp_path / "watch.log", tmp_path / "home", tmp_path / "temporary"
        home.mkdir()
        temporary.mkdir()
        gone = ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")
        clean = {name: value for name, value in os.environ.items() if name not in gone}
        clean |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
        clean |= {"LD_PRELOAD": str(watch), "WATCH_LOG": str(log)}
        done = subprocess.run(
            list(map(str, command)), env=clean | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = log.read_text().splitlines() if log.exists() else []
        network = {line for line in lines if not line.startswith("write ")}
        opened = {line.removeprefix("write ") for line in lines if line.startswith("write ")}
        files = {Path(name).absolute() for name in opened if not _NO_FILE.match(name)}
        files |= {path for path in home.rglob("*") if path.is_file()}
        return network, {path for path in files if not path.is_relative_to(temporary)}

    return run


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory, need_programs) -> Path:
    """The custom CPU operators for ONNX Runtime, compiled once."""
    from dtfsal.engines.native.projects import CPU_KERNELS

    need_programs("cmake", "c++")
    return CPU_KERNELS.build(tmp_path_factory.mktemp("cpu_kernels"))


@pytest.fixture(scope="session")
def planted_library(tmp_path_factory, need_programs) -> Path:
    """A library that writes a file as soon as it is loaded, wherever that is: the one that PLANTED names."""
    need_programs("cc")
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n"
        "__attribute__((constructor)) static void run(void) {\n"
        '    const char *name = getenv("PLANTED");\n'
        '    if (name != NULL) fclose(fopen(name, "w"));\n'
        "}\n"
        "void *RegisterCustomOps(void *options, const void *api) { return NULL; }\n"
    )
    library = folder / "libdtfsal_cpu_kernels.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, folder / "planted.c"], check=True)
    return library


@pytest.fixture
def plant(planted_library, tmp_path, monkeypatch):
    """Put the library into a copy of an engine, under any name; give the copy, and the file that must not appear."""
    from dtfsal.engines import read_bundle

    def make(engine: Path, name: str = "libdtfsal_cpu_kernels.so") -> tuple[Path, Path]:
        bundle = read_bundle(engine)
        files = {file: bundle.file(file) for file in bundle.manifest.files} | {name: planted_library}
        write_bundle(tmp_path / "planted.engine", bundle.manifest, files)
        monkeypatch.setenv("PLANTED", str(tmp_path / "was-run"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "planted.engine", tmp_path / "was-run"

    return make


@pytest.fixture(scope="session")
def make_toy_engine(tmp_path_factory: pytest.TempPathFactory):
    """Make an engine in closed form; see `_write_toy_engine`."""

    def make(clip: ClipSpec = TOY_CLIP, audio: AudioSpec | None = TOY_AUDIO, weights: str = "none") -> Path:
        return _write_toy_engine(tmp_path_factory.mktemp("toy") / "engine", clip, audio, weights)

    return make


@pytest.fixture(scope="session")
def toy_engine(make_toy_engine) -> Path:
    """The audio-visual toy engine."""
    return make_toy_engine()


@pytest.fixture(scope="session")
def toy_visual_engine(make_toy_engine) -> Path:
    """The visual toy engine."""
    return make_toy_engine(audio=None)


@pytest.fixture(scope="session")
def lite_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small lite, whose encoder sees frames alone; its mixing along time does something, too."""
    import torch

    from dtfsal.training.model.config import PRESETS
    from dtfsal.training.model.seeded import seeded_model
    from dtfsal.training.model.weights import save_weights

    model = seeded_model(PRESETS["lite"].resized(frames=8, height=64, width=96))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        torch.nn.init.normal_(model.mixing.project.weight, std=0.2)
    path = tmp_path_factory.mktemp("lite") / "lite.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture(scope="session")
def lite_engine(lite_weights: Path) -> Path:
    """The engine of `lite_weights` that encodes each frame once: three graphs."""
    return _build_lite(lite_weights, "reuse")


@pytest.fixture(scope="session")
def lite_window_engine(lite_weights: Path) -> Path:
    """The engine of `lite_weights` as one graph, which encodes every window anew."""
    return _build_lite(lite_weights, "window")


def _build_lite(weights: Path, graphs: str) -> Path:
    from dtfsal.export.builder import build_engine
    from dtfsal.export.request import BuildRequest

    output = weights.with_name(f"{graphs}.engine")
    build_engine(BuildRequest(weights=weights, output=output, target="onnxruntime", precision="fp32", graphs=graphs))
    return output


@pytest.fixture
def make_toy_clip(tmp_path: Path):
    """Make a lossless RGB video: frame i is flat grey of level 10 + 7 i, modulo 256, unless frames are given.

    Sound, if `sound_seconds` is not 0, is a 440 Hz tone as 16-bit PCM.
    """
    import av

    def make(
        name: str = "clip.mkv",
        count: int = 12,
        size: tuple[int, int] = (48, 80),
        rate: int = 25,
        sound_seconds: float = 0.0,
        frames: np.ndarray | None = None,
    ) -> Path:
        path = tmp_path / name
        if frames is None:
            levels = (10 + 7 * np.arange(count)) % 256
            frames = np.broadcast_to(levels[:, None, None, None], (count, *size, 3)).astype(np.uint8)
        with av.open(str(path), "w") as container:
            video = container.add_stream("ffv1", rate=rate)
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "bgr0"
            sound = container.add_stream("pcm_s16le", rate=16000, layout="mono") if sound_seconds else None
            for rgb in frames:
                for packet in video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")):
                    container.mux(packet)
            for packet in video.encode(None):
                container.mux(packet)
            if sound is not None:
                tone = np.sin(2 * np.pi * 440 * np.arange(int(16000 * sound_seconds)) / 16000)
                samples = (8000 * tone).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate = 16000
                for packet in (*sound.encode(frame), *sound.encode(None)):
                    container.mux(packet)
        return path

    return make
