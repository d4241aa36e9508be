"""Experiments: what a file may say, and the sentence when it says something else."""

import dataclasses

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines.errors import UsageError
from dtfsal.training.model.config import PRESETS
from dtfsal.training.trainer.experiment import Experiment, Schedule, experiment_from, read_experiment

LEAST = {"name": "a", "model": {"preset": "tiny"}, "data": {"dataset": "avad", "root": "x"}}


def with_change(place, value):
    *outer, last = place.split(".")
    result = {name: dict(part) if isinstance(part, dict) else part for name, part in LEAST.items()}
    inside = result
    for name in outer:
        inside = inside.setdefault(name, {})
    inside[last] = value
    return result


def test_the_defaults_are_the_papers():
    schedule = experiment_from(LEAST).schedule
    assert (schedule.epochs, schedule.patience, schedule.batch_size) == (10, 3, 1)
    assert [schedule.rate(epoch) for epoch in (0, 2, 3, 5, 6, 9)] == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-7])
    assert (schedule.kl_weight, schedule.cc_weight) == (1, -1)


def test_a_file_is_read_and_changed(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("name: a\nmodel: {preset: tiny}\ndata: {dataset: avad, root: x}\nschedule: {learning_rate: 1e-3}\n")
    assert read_experiment(path).schedule.learning_rate == 1e-3  # which YAML takes for a text
    changed = read_experiment(
        path, changes=["data.fold=2", "schedule.epochs=5", "start.weights=w.safetensors", "name=b"]
    )
    assert (changed.data.fold, changed.schedule.epochs, changed.start.weights, changed.name) == (
        2,
        5,
        "w.safetensors",
        "b",
    )
    with pytest.raises(UsageError, match="--set takes NAME=VALUE"):
        read_experiment(path, changes=["data.fold"])


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("data.rot", "x", r"data\.rot is not a setting; did you mean root\?"),
        ("schedule.epochs", 2.5, r"schedule\.epochs must be a whole number, not 2\.5"),
        ("schedule.epochs", True, "must be a whole number"),
        ("schedule.epochs", 0, r"schedule\.epochs must be at least 1"),
        ("schedule.learning_rate", "fast", "must be a number, not 'fast'"),
        ("schedule.learning_rate", float("nan"), "must be a finite number"),
        ("schedule.learning_rate", 0.0, "learning_rate must be positive"),
        ("precision", "int8", "precision must be one of fp32, fp16, bf16"),
        ("checkpoint_activations", "yes", "must be true or false"),
        ("data.temporal_strides", 2, "must be a list"),
        ("data.temporal_strides", [0], "temporal_strides must be positive"),
        ("data.flip_share", 2.0, "flip_share must lie in 0..1"),
        ("data", ["x"], "data must be a mapping"),
        ("model.changes", {"widht": 4}, r"model\.changes\.widht is not a setting of a model; did you mean width"),
        ("seed", -1, "seed must be a whole number from 0"),
        ("name", "", "name must not be empty"),
        ("start", {"encoder": "a", "weights": "b"}, "holds an encoder already"),
        ("data.window_span", 32, r"data\.window_span belongs to data\.window_every"),
        ("data.window_every", 0, "window_every must be a positive integer, not 0"),
        ("data.held_out", 1.0, r"data\.held_out must be a share in \[0, 1\), not 1\.0"),
        ("schedule.select", "first", r"schedule\.select must be one of best, last"),
        ("normalisation", "frozen", "frozen needs statistics to keep"),
    ],
)
def test_what_cannot_be_is_one_sentence(place, value, message):
    with pytest.raises(UsageError, match=message):
        experiment_from(with_change(place, value))


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match=r"data\.root is missing"):
        experiment_from(LEAST | {"data": {"dataset": "avad"}})
    with pytest.raises(UsageError, match="an experiment must be a mapping"):
        experiment_from(None)
    with pytest.raises(UsageError, match="fusion needs a model that hears"):
        experiment_from(LEAST | {"trained": "fusion", "model": {"preset": "tiny-v"}})


@pytest.mark.parametrize("text", ["a: [", "\x00", "- 1"])
def test_what_is_no_experiment_names_the_file(tmp_path, text):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"e\.yaml"):
        read_experiment(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_experiment(tmp_path / "none.yaml")


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([f.name for f in dataclasses.fields(Experiment)] + ["preset", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_yaml_is_an_experiment_or_a_sentence(values):
    try:
        experiment = experiment_from(values)
    except UsageError:
        return
    assert experiment_from(experiment.to_dict()) == experiment


def test_an_experiment_survives_yaml():
    experiment = experiment_from(LEAST | {"data": LEAST["data"] | {"temporal_strides": [1, 2], "fold": 3}})
    assert experiment_from(yaml.safe_load(yaml.safe_dump(experiment.to_dict()))) == experiment
    assert Schedule() == experiment.schedule


def test_models_are_presets_with_changes():
    model = {"preset": "tiny", "frames": 8, "height": 64, "width": 96, "target": "last", "changes": {"tokens": 3}}
    config = experiment_from(LEAST | {"model": model}).model.config()
    assert (config.clip.frames, config.clip.height, config.clip.target, config.tokens) == (8, 64, "last", 3)
    assert (config.audio.height, config.audio.width) == (32, 48)
    assert experiment_from(LEAST).model.config() == PRESETS["tiny"]
