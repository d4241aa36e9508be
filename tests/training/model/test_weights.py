"""Weights files: ours both ways, the published encoders' names, and everything that can be wrong with one."""

import copy
import dataclasses
import json
import pickle

import pytest
import safetensors.torch
import torch

from dtfsal.engines.errors import OutputError
from dtfsal.engines.partial import partial_file
from dtfsal.training import PRESETS, build_model
from dtfsal.training.model.config import AudioBranchConfig, ModelConfig
from dtfsal.training.model.seeded import seeded_model, synthetic_window
from dtfsal.training.model.weights import (
    CONFIG_KEY,
    FORMAT_KEY,
    WeightsError,
    load_audioset_weights,
    load_kinetics_weights,
    load_weights,
    read_config,
    save_weights,
)


@pytest.fixture(scope="module")
def tiny():
    return seeded_model("tiny")


@pytest.fixture
def saved(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny, path, metadata={"trained_on": "nothing"})
    return path


def rewrite(path, *, tensors=None, header=None):
    with safetensors.safe_open(path, framework="pt") as file:
        old = file.metadata()
    loaded = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors(loaded) if tensors else loaded, path, metadata=header(old) if header else old)


def test_round_trip(tiny, saved):
    loaded = load_weights(saved)
    assert loaded.config == tiny.config
    assert not loaded.training
    video, audio = synthetic_window(tiny.config)
    with torch.no_grad():
        torch.testing.assert_close(loaded(video, audio), tiny(video, audio), rtol=0, atol=0)
    assert read_config(saved) == tiny.config
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_half_precision_files_load(tiny, saved):
    rewrite(saved, tensors=lambda t: {k: v.half() if v.is_floating_point() else v for k, v in t.items()})
    assert all(p.dtype == torch.float32 for p in load_weights(saved).parameters())


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_weights(tmp_path / "none.safetensors")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(WeightsError, match="not a file"):
        load_weights(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "e.safetensors").touch()
    with pytest.raises(WeightsError, match="empty"):
        load_weights(tmp_path / "e.safetensors")


@pytest.mark.parametrize("keep", [4, 100, 5000, -1])
def test_truncated_file(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="cut short"):
        load_weights(saved)


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="no dtfsal configuration"):
        load_weights(path)


def test_a_newer_format_asks_for_an_upgrade(saved):
    rewrite(saved, header=lambda h: h | {FORMAT_KEY: "2"})
    with pytest.raises(WeightsError, match="upgrade"):
        load_weights(saved)


@pytest.mark.parametrize("config", ["{", "[]", '{"name": "x"}', "null"])
def test_an_edited_configuration(saved, config):
    rewrite(saved, header=lambda h: h | {CONFIG_KEY: config})
    with pytest.raises(WeightsError, match="configuration"):
        load_weights(saved)


def test_weights_of_the_first_version_are_refused(saved):
    """Their tensors have the same names and shapes, and another meaning."""

    def without_rule(header):
        config = json.loads(header[CONFIG_KEY])
        del config["temporal_rule"]
        return header | {CONFIG_KEY: json.dumps(config)}

    rewrite(saved, header=without_rule)
    for read in (read_config, load_weights):
        with pytest.raises(WeightsError, match=r"tiny\.safetensors .*names no temporal rule.*train") as caught:
            read(saved)
        assert caught.value.exit_code == 4
        assert "\n" not in str(caught.value)


def test_a_configuration_of_another_model(saved):
    other = json.dumps(PRESETS["tiny-v"].to_dict())
    rewrite(saved, header=lambda h: h | {CONFIG_KEY: other})
    with pytest.raises(WeightsError, match="unknown"):
        load_weights(saved)


def test_a_missing_a_misshapen_and_a_broken_tensor(saved):
    name = "final.bias"
    original = saved.read_bytes()
    rewrite(saved, tensors=lambda t: {k: v for k, v in t.items() if k != name})
    with pytest.raises(WeightsError, match=r"lacks 'final\.bias'"):
        load_weights(saved)
    saved.write_bytes(original)
    rewrite(saved, tensors=lambda t: t | {name: torch.zeros(3)})
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(saved)
    saved.write_bytes(original)
    rewrite(saved, tensors=lambda t: t | {name: torch.tensor([float("nan")])})
    with pytest.raises(WeightsError, match="NaN"):
        load_weights(saved)


def test_saving_where_nothing_can_be_written(tiny, tmp_path):
    with pytest.raises(WeightsError, match="cannot write"):
        save_weights(tiny, tmp_path / "no" / "such" / "folder.safetensors")


def test_a_second_run_does_not_write_the_same_file(tiny, tmp_path):
    with partial_file(tmp_path / "x.safetensors"), pytest.raises(OutputError, match="being written by another run"):
        save_weights(tiny, tmp_path / "x.safetensors")


class Exploit:
    def __reduce__(self):
        return (open, ("exploited", "w"))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"features.0.weight": Exploit()}, protocol=protocol))
    torch.save({"conv_proj.weight": Exploit()}, tmp_path / "evil2.pth")
    model = build_model("tiny")
    for file in (path, tmp_path / "evil2.pth"):
        with pytest.raises(WeightsError, match="tensors only"):
            load_kinetics_weights(model, file)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("content", [b"not weights", b"PK\x03\x04broken", b"\x80\x04."])
def test_garbage_as_a_foreign_file(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=str(path.name)):
        load_audioset_weights(build_model("tiny"), path)


def test_kinetics_names_load_with_interpolated_tables(tmp_path):
    """A state dict as torchvision saves it, of another clip size and with a classifier."""
    torch.manual_seed(0)
    small = build_model(PRESETS["tiny"].resized(frames=8, height=64, width=64)).encoder
    path = tmp_path / "mvit.pth"
    torch.save(small.state_dict() | {"head.1.weight": torch.zeros(400, 128), "head.1.bias": torch.zeros(400)}, path)
    model = build_model("tiny")
    load_kinetics_weights(model, path)
    torch.testing.assert_close(model.encoder.conv_proj.weight, small.conv_proj.weight, rtol=0, atol=0)
    table, resized = small.blocks[0].attn.rel_pos_w, model.encoder.blocks[0].attn.rel_pos_w
    assert resized.shape[0] == 2 * 40 - 1
    # The middle of a table is distance zero, whatever its length.
    torch.testing.assert_close(resized[39], table[15], rtol=0, atol=1e-6)


def test_the_published_configuration_takes_224_square_tables(tmp_path):
    clip = PRESETS["dtfsal-v"].resized(frames=16, height=224, width=224).clip
    with torch.device("meta"):
        published = build_model(ModelConfig(name="k400", clip=clip, audio=None)).encoder
    path = tmp_path / "mvit.safetensors"
    state = {name: torch.full(value.shape, 0.5) for name, value in published.state_dict().items()}
    safetensors.torch.save_file(state, path)
    model = build_model("dtfsal-v")
    load_kinetics_weights(model, path)
    assert all((value == 0.5).all() for value in model.encoder.state_dict().values())


def test_a_foreign_file_that_does_not_fit_changes_nothing(tmp_path):
    model = build_model("tiny")
    before = copy.deepcopy(model.state_dict())
    wider = dataclasses.replace(model.config.encoder, mlp_ratio=2.0)
    other = build_model(dataclasses.replace(model.config, encoder=wider))
    path = tmp_path / "other.pth"
    torch.save(other.encoder.state_dict(), path)
    with pytest.raises(WeightsError, match="does not fit"):
        load_kinetics_weights(model, path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_foreign_file_with_a_broken_tensor_changes_nothing(tmp_path, value, suffix):
    torch.manual_seed(0)
    model, source = build_model("tiny"), build_model("tiny")
    before = copy.deepcopy(model.state_dict())
    state = {name: tensor.clone() for name, tensor in source.encoder.state_dict().items()}
    state["norm.bias"][3] = value  # the last tensor but one: a loader that goes tensor by tensor would be half done
    path = tmp_path / f"broken{suffix}"
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(WeightsError, match=r"damaged: 'norm\.bias'"):
        load_kinetics_weights(model, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_truncated_pytorch_file(tmp_path, cut):
    path = tmp_path / "mvit.pth"
    torch.save(build_model("tiny").encoder.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(WeightsError, match=r"mvit\.pth"):
        load_kinetics_weights(build_model("tiny"), path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {"state_dict": {"x": "y"}}, torch.zeros(3), None])
def test_a_pytorch_file_that_is_no_state_dict(tmp_path, content):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="state dict"):
        load_kinetics_weights(build_model("tiny"), path)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model_state", "model"])
def test_a_state_dict_inside_a_checkpoint(tmp_path, key):
    source, model = build_model("tiny").encoder, build_model("tiny")
    path = tmp_path / "checkpoint.pth"
    torch.save({key: source.state_dict(), "epoch": 3}, path)
    load_kinetics_weights(model, path)
    assert torch.equal(model.encoder.conv_proj.weight, source.conv_proj.weight)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not weights at all", b"\xff" * 16 + b"{}", b"PK\x03\x04"])
def test_every_refusal_is_one_line_with_the_file_and_an_exit_code(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    for load in (load_weights, read_config, lambda file: load_kinetics_weights(build_model("tiny"), file)):
        with pytest.raises(WeightsError) as caught:
            load(path)
        assert caught.value.exit_code == 4
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250 + len(str(path))


def test_audioset_names_load(tmp_path):
    """The names of VGGish in PyTorch: a sequence of convolution, ReLU and pooling, then fully connected layers."""
    shapes = {0: (64, 1), 3: (128, 64), 6: (256, 128), 8: (256, 256), 11: (512, 256), 13: (512, 512)}
    state = {f"features.{index}.weight": torch.full((*shape, 3, 3), 0.25) for index, shape in shapes.items()}
    state |= {f"features.{index}.bias": torch.full(shape[:1], 0.75) for index, shape in shapes.items()}
    state |= {"embeddings.0.weight": torch.zeros(4096, 12), "embeddings.0.bias": torch.zeros(4096)}
    path = tmp_path / "vggish.pth"
    torch.save(state, path)
    config = ModelConfig(**(vars(PRESETS["tiny"]) | {"audio_branch": AudioBranchConfig(heads=2)}))
    model = build_model(config)
    load_audioset_weights(model, path)
    assert (model.audio.vggish.features[13].weight == 0.25).all()
    with pytest.raises(WeightsError, match="visual only"):
        load_audioset_weights(build_model("tiny-v"), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config | {"width": 10**9},
        lambda config: config | {"width": 10**300},
        lambda config: config | {"decoder_widths": [10**12] * 4},
        lambda config: config | {"width": "32"},
        lambda config: config | {"encoder": 5},
        lambda config: config | {"width": float("nan")},
        lambda config: config | {"width": 4096},  # another model than the tensors are of
    ],
)
def test_a_configuration_that_cannot_be_takes_no_memory(saved, change):
    rewrite(saved, header=lambda old: old | {CONFIG_KEY: json.dumps(change(json.loads(old[CONFIG_KEY])))})
    with pytest.raises(WeightsError):
        load_weights(saved)


def test_a_deeply_nested_configuration_is_one_sentence(saved):
    rewrite(saved, header=lambda old: old | {CONFIG_KEY: "[" * 100_000})
    with pytest.raises(WeightsError, match="cannot read"):
        read_config(saved)
