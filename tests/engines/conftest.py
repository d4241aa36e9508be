"""A very small audio-visual model as an engine bundle."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.engines import AudioSpec, ClipSpec, GraphSpec, Manifest, TensorSpec, write_bundle

CLIP = ClipSpec(frames=2, height=4, width=6)
AUDIO = AudioSpec(slices=9, height=2, width=3)


def window_graph(batch: int) -> GraphSpec:
    return GraphSpec(
        "model.onnx",
        (
            TensorSpec("video", "float32", (batch, 3, 2, 4, 6), description="normalised RGB"),
            TensorSpec("audio", "float32", (batch, 9, 1, 2, 3), description="log-mel"),
        ),
        (TensorSpec("saliency_map", "float32", (batch, 1, 4, 6), 0.0, 1.0),),
    )


def build_manifest(batch: int = -1) -> Manifest:
    return Manifest(
        model_name="mean",
        model_config={"widths": (1, 2), "dropout": 0.5, "name": "mean"},
        weights={"source": "none", "sha256": None},
        clip=CLIP,
        audio=AUDIO,
        graphs={"window": window_graph(batch)},
        target="onnxruntime",
        precision="fp32",
        deform_conv="none",
        builder="onnx.helper",
        builder_version=onnx.__version__,
        created_by="dtfsal tests",
    )


def build_model(batch: int | str = "batch", video_type: int = TensorProto.FLOAT, video_name: str = "video"):
    """sigmoid(mean of the video over channels and time + mean of the sound): (B, 1, 4, 6)."""
    nodes = [
        helper.make_node("Cast", [video_name], ["v32"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["v32", "video_axes"], ["v"], keepdims=0),  # (B, 4, 6)
        helper.make_node("Unsqueeze", ["v", "one"], ["v4"]),  # (B, 1, 4, 6)
        helper.make_node("ReduceMean", ["audio", "audio_axes"], ["a"], keepdims=0),  # (B, 1)
        helper.make_node("Unsqueeze", ["a", "two_three"], ["a4"]),  # (B, 1, 1, 1)
        helper.make_node("Add", ["v4", "a4"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["saliency_map"]),
    ]
    constants = {"video_axes": [1, 2], "one": [1], "audio_axes": [1, 3, 4], "two_three": [2, 3]}
    graph = helper.make_graph(
        nodes,
        "mean",
        [
            helper.make_tensor_value_info(video_name, video_type, [batch, 3, 2, 4, 6]),
            helper.make_tensor_value_info("audio", TensorProto.FLOAT, [batch, 9, 1, 2, 3]),
        ],
        [helper.make_tensor_value_info("saliency_map", TensorProto.FLOAT, [batch, 1, 4, 6])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def manifest() -> Manifest:
    return build_manifest()


@pytest.fixture
def tiny_manifest() -> Callable[..., Manifest]:
    """`build_manifest`, as a function that takes the batch size."""
    return build_manifest


@pytest.fixture
def tiny_model() -> Callable[..., onnx.ModelProto]:
    """`build_model`, as a function that takes its variations."""
    return build_model


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Make a bundle in a new folder from a model and a manifest; the tiny ones by default."""
    made: list[Path] = []

    def make(model: onnx.ModelProto | bytes | None = None, manifest: Manifest | None = None) -> Path:
        source = tmp_path / f"model{len(made)}.onnx"
        model = build_model() if model is None else model
        source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        folder = tmp_path / f"engine{len(made)}"
        made.append(folder)
        write_bundle(folder, build_manifest() if manifest is None else manifest, {"model.onnx": source})
        return folder

    return make


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "video": rng.standard_normal((2, 3, 2, 4, 6), dtype=np.float32),
        "audio": rng.standard_normal((2, 9, 1, 2, 3), dtype=np.float32),
    }
