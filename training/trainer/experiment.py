"""What an experiment is: one YAML file, checked against frozen dataclasses before anything is read or trained.

    name: dtfsal-v-dhf1k
    model: {preset: dtfsal-v}
    start: {encoder: mvit_v2_s.pth}
    data: {dataset: dhf1k, root: data/DHF1K, flip_share: 0.5}
    schedule: {epochs: 10}

The defaults are the paper's (section 4, implementation details): Adam at 1e-4, times 0.1 every three epochs, ten
epochs, patience three, batches of one, KL - CC.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from dtfsal.engines.errors import MALFORMED, UnavailableError, UsageError
from dtfsal.engines.limits import EXPERIMENT_BYTES, EXPERIMENT_NUMBER, checked_argument, shown
from dtfsal.training.data.training_clips import Augmentation, EveryFrames
from dtfsal.training.model.config import ModelConfig, jsonable, resolve_config

Precision = Literal["fp32", "fp16", "bf16"]
Trained = Literal["all", "fusion"]
Normalisation = Literal["cross-process", "frozen"]
Select = Literal["best", "last"]
Part = TypeVar("Part")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model.

    Attributes:
        preset: see `dtfsal.training.PRESETS`.
        frames: T; None for the preset's.
        height: of a frame, in pixels; None for the preset's.
        width: likewise.
        target: the frame of a window that the map belongs to, "last" or "centre"; None for the preset's.
        changes: settings of the model's configuration that differ, such as {"enhancement": "none"}.
    """

    preset: str = "dtfsal"
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    target: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def config(self) -> ModelConfig:
        """The model's configuration.

        Raises:
            UsageError: there is no such preset, or its sizes cannot be.
        """
        config = resolve_config(self.preset).resized(frames=self.frames, height=self.height, width=self.width)
        if self.target is not None:
            clip = dataclasses.replace(config.clip, target=self.target)  # type: ignore[arg-type]
            config = dataclasses.replace(config, clip=clip)
        if not self.changes:
            return config
        known = {field.name for field in dataclasses.fields(config)} - {"clip", "audio"}
        for name in self.changes:
            if name not in known:
                raise UsageError(f"model.changes.{name} is not a setting of a model{_near(name, known)}")
        return ModelConfig.from_dict({**config.to_dict(), **self.changes})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What the weights are before the first step; at most one of the two.

    Attributes:
        encoder: published weights of the visual encoder (torchvision's MViTv2-S).
        sound_encoder: published weights of VGGish.
        weights: a safetensors file of dtfsal; an audio-visual model takes from a visual one all that both share.
    """

    encoder: str | None = None
    sound_encoder: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.encoder is not None:
            raise UsageError("start.weights holds an encoder already; leave start.encoder out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataChoice:
    """What it is trained and validated on.

    Attributes:
        dataset: its name; see docs/how-to/datasets.md.
        root: the folder that holds it.
        fold: of a data set with folds, which.
        windows_per_video: random windows of each video in an epoch.
        window_every: windows at fixed places in place of random ones, so many frames apart; see `EveryFrames`.
        window_span: frames that must follow a window's start; see `EveryFrames`.
        held_out: share of the training videos that are not trained on and choose the checkpoint; None for a tenth,
            or nothing where the data set has a validation split that nobody reports on ("videos"). 0 chooses on the
            set's own validation split.
        validation_every: of each validation video, every so many frames are scored.
        validation_videos: at most so many of them; None for all.
        workers: processes that read data; 0 to read it in the process that trains.
        flip_share: see `Augmentation`, as the three below.
        colour_share: likewise.
        temporal_strides: likewise.
        gain_db: likewise.
    """

    dataset: str
    root: str
    fold: int | None = None
    windows_per_video: int = 1
    window_every: int | None = None
    window_span: int | None = None
    held_out: float | None = None
    validation_every: int = 32
    validation_videos: int | None = None
    workers: int = 4
    flip_share: float = 0.0
    colour_share: float = 0.0
    temporal_strides: tuple[int, ...] = (1,)
    gain_db: float = 0.0

    def __post_init__(self) -> None:
        _at_least(1, data_windows_per_video=self.windows_per_video, data_validation_every=self.validation_every)
        _at_least(0, data_workers=self.workers)
        if self.validation_videos is not None:
            _at_least(1, data_validation_videos=self.validation_videos)
        if self.held_out is not None and not 0 <= self.held_out < 1:
            raise UsageError(f"data.held_out must be a share in [0, 1), not {self.held_out!r}")
        if self.window_span is not None and self.window_every is None:
            raise UsageError("data.window_span belongs to data.window_every; give both, or leave it out")
        self.every()
        self.augmentation()

    def every(self) -> EveryFrames | None:
        """Where windows are, or None for random places."""
        return None if self.window_every is None else EveryFrames(self.window_every, self.window_span)

    def augmentation(self) -> Augmentation:
        """How windows are varied."""
        return Augmentation(
            flip_share=self.flip_share,
            colour_share=self.colour_share,
            temporal_strides=self.temporal_strides,
            gain_db=self.gain_db,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: at most.
        patience: it ends after so many epochs that did not better the validation loss.
        batch_size: windows at once in a process.
        accumulate: batches whose gradients are added up for a step.
        learning_rate: Adam's, in the first epochs.
        decay: factor on it ...
        decay_every: ... after every so many epochs.
        weight_decay: Adam's L2 penalty.
        clip_norm: largest norm of the gradient; 0 for no limit.
        average: decay of the weights' moving average per step, which is then validated and kept as best; 0 for none.
        kl_weight: λ1 of eq. 19.
        cc_weight: λ2.
        select: which weights become best.safetensors: "best" by the validation loss, or "last"; then no epoch is left
            out by `patience`.
        save_every: steps from one checkpoint to the next; there is one at each epoch's end, too.
    """

    epochs: int = 10
    patience: int = 3
    batch_size: int = 1
    accumulate: int = 1
    learning_rate: float = 1e-4
    decay: float = 0.1
    decay_every: int = 3
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    average: float = 0.0
    kl_weight: float = 1.0
    cc_weight: float = -1.0
    select: Select = "best"
    save_every: int = 500

    def __post_init__(self) -> None:
        whole = ("epochs", "patience", "batch_size", "accumulate", "decay_every", "save_every")
        _at_least(1, **{f"schedule_{name}": getattr(self, name) for name in whole})
        _at_least(0, schedule_weight_decay=self.weight_decay, schedule_clip_norm=self.clip_norm)
        if not (self.learning_rate > 0 and 0 < self.decay <= 1 and 0 <= self.average < 1):
            raise UsageError("schedule: learning_rate must be positive, decay in (0, 1], average in [0, 1)")

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        return self.learning_rate * self.decay ** (epoch // self.decay_every)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment.

    Attributes:
        name: of the run, in reports.
        model: which model.
        data: what it is trained on.
        start: what its weights are at first.
        schedule: how long and how fast.
        seed: of everything random.
        precision: of the arithmetic; "fp16" and "bf16" are mixed, for GPUs.
        checkpoint_activations: keep less of the encoder for the backward pass and compute it again: memory for time.
        trained: "all", or "fusion" for the sound branch and the fusion alone (Table 11's second row). What is not
            trained stays as it is, the statistics of its batch normalisations included.
        normalisation: with which statistics batch normalisations work in training: "cross-process" for those of all
            processes' batches, "frozen" for the running ones that the start's weights hold, but in the fusion.
    """

    name: str
    model: ModelChoice
    data: DataChoice
    start: Start = dataclasses.field(default_factory=Start)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    seed: int = 0
    precision: Precision = "fp32"
    checkpoint_activations: bool = False
    trained: Trained = "all"
    normalisation: Normalisation = "cross-process"

    def __post_init__(self) -> None:
        checked_argument("seed", self.seed)
        if not self.name:
            raise UsageError("name must not be empty")
        config = self.model.config()
        if self.trained == "fusion" and config.audio is None:
            raise UsageError(f"trained: fusion needs a model that hears, and {self.model.preset} does not")
        if self.normalisation == "frozen" and self.start.weights is None:
            raise UsageError("normalisation: frozen needs statistics to keep; give start.weights")

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON and YAML types."""
        return typing.cast(dict[str, Any], jsonable(dataclasses.asdict(self)))


def read_experiment(path: Path, *, changes: Sequence[str] = ()) -> Experiment:
    """Read an experiment's file. Paths in it are from the working directory.

    Args:
        path: the file.
        changes: settings that differ, "NAME=VALUE" with dots between names and the value as YAML has it.

    Raises:
        UsageError: it cannot be read, or a setting is unknown or cannot be.
        UnavailableError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise UnavailableError("reading an experiment needs PyYAML; run `pip install 'dtfsal[trainer]'`") from error
    try:
        if path.stat().st_size > EXPERIMENT_BYTES:
            raise UsageError(f"{path} is too large to be an experiment")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, *MALFORMED) as error:
        # YAML's reader lets what Python says of impossible dates, numbers and nesting through.
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read as YAML ({reason})") from error
    try:
        for change in changes:
            name, equals, text = change.partition("=")
            if not equals:
                raise UsageError(f"--set takes NAME=VALUE, not {change!r}")
            values = _changed(values, name.split("."), yaml.safe_load(text))
        return experiment_from(values)
    except (yaml.YAMLError, *MALFORMED) as error:
        raise UsageError(f"--set: {' '.join(str(error).split())}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _changed(values: Any, names: Sequence[str], value: Any) -> Any:
    """The mapping with another value at a place within it."""
    if not names:
        return value
    inside = dict(values) if isinstance(values, Mapping) else {}
    return {**inside, names[0]: _changed(inside.get(names[0]), names[1:], value)}


def experiment_from(values: Any) -> Experiment:
    """An experiment of YAML's or JSON's types.

    Raises:
        UsageError: a setting is unknown, missing or cannot be.
    """
    return _made(Experiment, values, "")


def _made(kind: type[Part], values: Any, place: str) -> Part:
    """A dataclass of a mapping, and those within it."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{place.rstrip('.') or 'an experiment'} must be a mapping of settings, not {shown(values)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in fields:
            raise UsageError(f"{place}{name} is not a setting{_near(str(name), fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"{place}{missing[0]} is missing")
    return kind(**{name: _value(hints[name], value, f"{place}{name}") for name, value in values.items()})


def _value(hint: Any, value: Any, place: str) -> Any:
    """A value of a field's type."""
    if dataclasses.is_dataclass(hint):
        return _made(typing.cast(type, hint), value, f"{place}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _value(next(kind for kind in arguments if kind is not type(None)), value, place)
    if origin is Literal:
        if value not in arguments:
            raise UsageError(f"{place} must be one of {', '.join(arguments)}, not {shown(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{place} must be a list, not {shown(value)}")
        return tuple(_value(arguments[0], item, place) for item in value)
    if origin is not None:  # a mapping, which its owner checks
        if not isinstance(value, Mapping):
            raise UsageError(f"{place} must be a mapping, not {shown(value)}")
        return dict(value)
    if hint is float and type(value) is str:
        # YAML 1.1 takes "1e-4" for a text.
        try:
            value = float(value)
        except ValueError:
            raise UsageError(f"{place} must be a number, not {shown(value)}") from None
    if hint is float and type(value) is int:
        value = float(value)
    if hint is int and type(value) is int and abs(value) > EXPERIMENT_NUMBER:
        raise UsageError(f"{place} is {shown(value)}, which no experiment has")
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        kinds = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
        raise UsageError(f"{place} must be {kinds[hint]}, not {shown(value)}")
    return value


def _at_least(least: int, **values: float) -> None:
    for name, value in values.items():
        if not value >= least:
            raise UsageError(f"{name.replace('_', '.', 1)} must be at least {least}, not {shown(value)}")


def _near(name: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
