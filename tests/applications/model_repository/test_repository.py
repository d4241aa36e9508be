"""A repository for Triton: every configuration fits Triton's schema and the graph's file, and the engine is whole."""

import onnx
import pytest

from dtfsal.applications.model_repository.configuration import Word, as_text, graph_configuration
from dtfsal.applications.model_repository.repository import write_repository
from dtfsal.engines import GraphSpec, TensorSpec, read_bundle
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main


@pytest.fixture(scope="module")
def parse():
    """Read a configuration by Triton's own schema."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return lambda text: text_format.Parse(text, schema.ModelConfig())


@pytest.fixture
def written(toy_engine, tmp_path):
    return write_repository(toy_engine, tmp_path / "models", name="toy", max_batch_size=4)


def shape_of(value):
    return [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]


def type_of(value):
    name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    return {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16"}.get(name, f"TYPE_{name}")


def test_a_graph_with_an_open_batch_is_batched_by_triton(written, parse):
    configuration = parse((written.path / "toy-window" / "config.pbtxt").read_text())
    assert configuration.max_batch_size == 4
    assert configuration.HasField("dynamic_batching")
    assert [list(tensor.dims) for tensor in configuration.input] == [[3, 4, 24, 40], [9, 1, 12, 20]]


@pytest.mark.parametrize("engine", ["lite", "lite-int8"])
def test_every_graph_is_described_as_its_file_is(engine, tmp_path, parse):
    written = write_repository(engine, tmp_path / "models")
    assert len(written.models) == 1 + len(read_bundle(engine).manifest.graphs)
    for model in written.models[1:]:
        folder = written.path / model
        configuration = parse((folder / "config.pbtxt").read_text())
        graph = onnx.load(folder / "1" / configuration.default_model_filename).graph  # its weights' file too
        assert configuration.name == model
        assert configuration.backend == "onnxruntime"
        assert configuration.max_batch_size == 0
        for described, real in ((configuration.input, graph.input), (configuration.output, graph.output)):
            names = type(configuration.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
            told = {tensor.name: (names[tensor.data_type].name, list(tensor.dims)) for tensor in described}
            assert told == {value.name: (type_of(value), shape_of(value)) for value in real}


def test_a_plan_of_tensorrt_is_described_too(toy_engine, parse):
    manifest = read_bundle(toy_engine).manifest
    object.__setattr__(manifest, "target", "tensorrt")
    half = GraphSpec("w.plan", (TensorSpec("a", "float16", (-1, 2)),), (TensorSpec("b", "bool", (1, 2)),))
    configuration = parse(graph_configuration("m", manifest, half, 8))
    assert (configuration.backend, configuration.platform) == ("tensorrt", "tensorrt_plan")
    assert configuration.max_batch_size == 0  # one of its tensors has no open batch
    assert list(configuration.input[0].dims) == [-1, 2]


def test_the_streams_model_has_the_whole_engine_and_a_sequence_batcher(written, parse, toy_engine):
    configuration = parse((written.path / "toy" / "config.pbtxt").read_text())
    assert configuration.sequence_batching.HasField("oldest")
    assert len(configuration.sequence_batching.control_input) == 3
    assert read_bundle(written.path / "toy" / "1" / "engine").manifest == read_bundle(toy_engine).manifest
    compile((written.path / "toy" / "1" / "model.py").read_text(), "model.py", "exec")


def test_text_cannot_break_out_of_its_quotes(parse):
    name = 'a"\n}\\ \u00e9'
    assert parse(as_text({"name": name, "input": [{"name": "x", "data_type": Word("TYPE_FP32")}]})).name == name


def test_graphs_that_triton_cannot_run_are_left_out_and_said(toy_engine, tmp_path, plant):
    planted, _ = plant(toy_engine)
    written = write_repository(planted, tmp_path / "models", name="toy")
    assert written.models == ("toy",)
    assert "libdtfsal_cpu_kernels.so" in written.notes[0]
    assert [path.name for path in written.path.iterdir()] == ["toy"]


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "x" * 101])
def test_a_name_cannot_lead_out(toy_engine, tmp_path, name):
    with pytest.raises(UsageError, match="name"):
        write_repository(toy_engine, tmp_path / "models", name=name)
    assert not (tmp_path / "models").exists()


def test_what_exists_is_not_touched(toy_engine, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").write_text("mine")
    assert main(["triton", str(toy_engine), "-o", str(tmp_path / "models")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["triton", "no-such-engine", "-o", str(tmp_path / "new")]) == 4
    assert not (tmp_path / "new").exists()
    assert main(["triton", str(toy_engine), "-o", str(tmp_path / "new"), "--name", "toy", "--json"]) == 0
    assert (tmp_path / "new" / "toy" / "config.pbtxt").is_file()
