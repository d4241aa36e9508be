"""Configurations: the way to JSON and back, and what cannot be."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.training.model.config import PRESETS, AudioBranchConfig, ModelConfig, MViTConfig, resolve_config


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset):
    config = PRESETS[preset]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(
    frames=st.integers(1, 40).map(lambda n: 2 * n),
    height=st.integers(1, 12).map(lambda n: 32 * n),
    width=st.integers(1, 12).map(lambda n: 32 * n),
    sound=st.booleans(),
    tokens=st.integers(1, 9),
    head_dim=st.integers(1, 64),
    multiples=st.tuples(*[st.integers(1, 8)] * 4),
)
def test_any_valid_configuration_survives_json(frames, height, width, sound, tokens, head_dim, multiples):
    config = ModelConfig(
        name="any",
        clip=ClipSpec(frames=frames, height=height, width=width),
        audio=AudioSpec(slices=9, height=height // 2, width=width // 2) if sound else None,
        encoder=MViTConfig(widths=tuple(head_dim * m for m in multiples), head_dim=head_dim),
        tokens=tokens,
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_of_the_first_version_is_refused():
    """Its decoders have another temporal rule, and the same tensors would mean something else."""
    data = PRESETS["lite"].to_dict()
    del data["temporal_rule"]
    with pytest.raises(UsageError, match=r"names no temporal rule.* \(stride-4\).* knows stride-2 only"):
        ModelConfig.from_dict(data)


@pytest.mark.parametrize("rule", ["stride-4", "stride-8", "x" * 10_000, None, 2, ["stride-2"]])
def test_an_unknown_temporal_rule_is_one_short_sentence(rule):
    with pytest.raises(UsageError, match=r"temporal_rule must be 'stride-2'.*upgrade dtfsal") as caught:
        ModelConfig.from_dict(PRESETS["lite"].to_dict() | {"temporal_rule": rule})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("times", range(1, 41))
def test_the_target_time_is_the_token_of_the_target_frame(times):
    for target in ("last", "centre"):
        clip = ClipSpec(frames=2 * times, height=32, width=32, target=target)
        config = ModelConfig(name="any", clip=clip, audio=None)
        assert config.target_time == (times - 1 if target == "last" else times // 2)


@given(st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=5)))
def test_anything_else_is_one_error(data):
    with pytest.raises(UsageError):
        ModelConfig.from_dict(data)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(ModelConfig)])
@pytest.mark.parametrize("value", [[1], "x", {"y": 1}, -1])
def test_a_field_of_another_type_is_an_error(key, value):
    if key == "name" and value == "x":
        pytest.skip("a good name")
    data = PRESETS["tiny"].to_dict() | {key: value}
    with pytest.raises(UsageError):
        ModelConfig.from_dict(data)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": 31},
        {"height": 100},
        {"width": 16},
    ],
)
def test_sizes_that_the_strides_do_not_divide(change):
    with pytest.raises(UsageError, match="strides"):
        PRESETS["tiny"].resized(**change)


def test_resizing_takes_the_sound_along():
    config = PRESETS["dtfsal"].resized(height=64, width=96)
    assert (config.audio.height, config.audio.width) == (32, 48)
    assert config.clip.frames == 32


def test_sound_of_another_size_than_half_the_frame():
    audio = AudioSpec(slices=9, height=96, width=160)
    with pytest.raises(UsageError, match="half the frame"):
        dataclasses.replace(PRESETS["tiny"], audio=audio)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MViTConfig(widths=(96, 192)),
        lambda: MViTConfig(widths=(96, 192, 384, 700)),
        lambda: MViTConfig(first_kv_stride=3),
        lambda: AudioBranchConfig(widths=(1, 2)),
        lambda: AudioBranchConfig(heads=0),
        lambda: dataclasses.replace(PRESETS["tiny"], max_shift=16),
        lambda: dataclasses.replace(PRESETS["tiny"], tokens=0),
        lambda: dataclasses.replace(PRESETS["tiny"], decoder_widths=(1, 2, 3)),
        lambda: dataclasses.replace(PRESETS["tiny"], audio_branch=AudioBranchConfig(heads=5)),
    ],
)
def test_values_that_cannot_be(make):
    with pytest.raises(UsageError):
        make()


def test_presets_resolve_by_name():
    assert resolve_config("tiny") is PRESETS["tiny"]
    assert resolve_config(PRESETS["tiny"]) is PRESETS["tiny"]


def test_an_encoder_of_a_newer_version_asks_for_an_upgrade():
    data = PRESETS["tiny"].to_dict()
    data["encoder"] = {"kind": "newer"}
    with pytest.raises(UsageError, match="upgrade"):
        ModelConfig.from_dict(data)
    with pytest.raises(UsageError, match="kind"):
        MViTConfig(kind="newer")
