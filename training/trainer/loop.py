"""The training loop: epochs of steps, a validation after each, checkpoints from which a killed run resumes exactly.

On one process or many: under `torchrun` every process runs this with its share of each step's windows. Gradients are
averaged by PyTorch's DistributedDataParallel, through Lightning Fabric, which also places the model and scales mixed
precision; what is ours is what the paper asks for.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtfsal.engines.errors import OutputError, UnavailableError, UsageError
from dtfsal.engines.partial import held
from dtfsal.training.data.training_clips import TrainingClips
from dtfsal.training.data.video_item import VideoItem
from dtfsal.training.model.losses import saliency_loss
from dtfsal.training.model.network import DTFSal, build_model
from dtfsal.training.model.weights import save_weights
from dtfsal.training.recipe.optimisation import update_average
from dtfsal.training.trainer.batches import Share, epoch_batches, loaded
from dtfsal.training.trainer.checkpoint import FILE, Checkpoint, Progress, load_checkpoint, save_checkpoint
from dtfsal.training.trainer.cross_process_norm import across_processes
from dtfsal.training.trainer.experiment import Experiment
from dtfsal.training.trainer.start import checkpoint_blocks, start_model, trained_parameters, training_mode
from dtfsal.training.trainer.validation import average_weights, means_of, validation_sums
from dtfsal.training.trainer.videos import experiment_videos

PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}
BEST = "best.safetensors"
# Settings that a resumed run may change.
MAY_CHANGE = ("data.root", "data.workers", "schedule.epochs", "schedule.patience", "schedule.save_every")
# What is done, how far, of how much, the latest loss or None.
Report = Callable[[str, int, int, float | None], None]


def train(
    experiment: Experiment,
    run: Path,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    report: Report = lambda *_: None,
) -> dict[str, Any]:
    """Train, and leave in the run's folder best.safetensors, last.safetensors, run.json and TensorBoard's log.

    Args:
        experiment: what.
        run: the folder; a new one, or with `resume` one that was begun.
        resume: go on from its last checkpoint.
        accelerator: "auto", "cpu" or "cuda".
        report: told of every step and validated video, on the first process.

    Returns:
        What run.json holds.

    Raises:
        UsageError: a setting does not fit the model or the data, or the folder is not as it should be.
        OutputError: the folder cannot be made, or another process trains there.
        DataError: a file of the data set is missing or damaged.
        WeightsError: weights or a checkpoint cannot be used.
        UnavailableError: Lightning Fabric is not installed, or there is no such accelerator.
    """
    fabric = _fabric(experiment, accelerator)
    share = Share(fabric.global_rank, fabric.world_size)
    checkpoint = load_checkpoint(run) if resume else None
    if checkpoint is None and (run / FILE).exists():
        raise UsageError(f"{run} holds a run already; continue it with --resume, or choose another folder")
    if checkpoint is not None:
        _check_same(checkpoint.experiment, experiment)
    data, config = experiment.data, experiment.model.config()
    train_items, validation_items = experiment_videos(data)
    torch.manual_seed(experiment.seed)
    model = build_model(config)
    if checkpoint is None:
        start_model(model, experiment.start)
    trained = trained_parameters(model, experiment.trained)
    across_processes(model)
    if experiment.checkpoint_activations:
        checkpoint_blocks(model)
    clips = TrainingClips(
        train_items,
        config.clip,
        config.audio,
        data.augmentation(),
        seed=experiment.seed,
        windows_per_video=data.windows_per_video,
        every=data.every(),
    )
    with _made_folder(run, fabric):
        trainer = _Trainer(fabric, share, experiment, run, model, trained, clips, validation_items, checkpoint, report)
        return trainer.run()


class _Trainer:
    def __init__(
        self,
        fabric: Any,
        share: Share,
        experiment: Experiment,
        run: Path,
        model: DTFSal,
        trained: Sequence[nn.Parameter],
        clips: TrainingClips,
        validation_items: Sequence[VideoItem],
        checkpoint: Checkpoint | None,
        report: Report,
    ) -> None:
        self._fabric, self._share, self._experiment, self._folder = fabric, share, experiment, run
        self._clips, self._validation_items = clips, validation_items
        self._report: Report = report if share.rank == 0 else lambda *_: None
        self._model, self._parameters = model, list(trained)
        schedule = experiment.schedule
        self._wrapped = fabric.setup_module(model)
        adam = torch.optim.Adam(self._parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        self._adam = adam
        self._optimiser = fabric.setup_optimizers(adam)
        self._average: dict[str, Tensor] | None = None
        if schedule.average:
            self._average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self._progress = Progress()
        if checkpoint is not None:
            checkpoint.restore(model, adam, self._average)
            self._progress = checkpoint.progress
            if checkpoint.scaler:
                fabric.strategy.precision.scaler.load_state_dict(dict(checkpoint.scaler))
        self._board = _board(run, self._progress.steps) if share.rank == 0 else None
        self._started = time.perf_counter()

    def run(self) -> dict[str, Any]:
        progress, schedule = self._progress, self._experiment.schedule
        while progress.epoch < schedule.epochs and progress.epochs_without_gain < schedule.patience:
            self._epoch()
            self._validate()
            progress.epoch, progress.step = progress.epoch + 1, 0
            self._save()
        return self._summary()

    def _epoch(self) -> None:
        progress, experiment, schedule = self._progress, self._experiment, self._experiment.schedule
        self._clips.set_epoch(progress.epoch)
        for group in self._adam.param_groups:
            group["lr"] = schedule.rate(progress.epoch)
        steps = epoch_batches(
            len(self._clips),
            experiment.seed,
            progress.epoch,
            batch_size=schedule.batch_size,
            accumulate=schedule.accumulate,
            share=self._share,
        )
        left = steps[progress.step :]
        batches = loaded(
            self._clips,
            [batch for step in left for batch in step],
            workers=experiment.data.workers,
            pin=self._fabric.device.type == "cuda",
        )
        self._wrapped.train()
        training_mode(self._model, experiment.trained, experiment.normalisation)
        for _ in left:
            loss = self._step(batches)
            progress.step, progress.steps = progress.step + 1, progress.steps + 1
            progress.losses.append(loss)
            if self._board is not None:
                self._board.add_scalar("loss/train", loss, progress.steps)
                self._board.add_scalar("learning rate", schedule.rate(progress.epoch), progress.steps)
            self._report(f"epoch {progress.epoch + 1}/{schedule.epochs}", progress.step, len(steps), loss)
            if progress.step % schedule.save_every == 0 and progress.step < len(steps):
                self._save()

    def _step(self, batches: Iterator[dict[str, Tensor]]) -> float:
        """One step of all processes; its loss, the mean over their windows."""
        schedule, total = self._experiment.schedule, torch.zeros((), device=self._fabric.device)
        for number in range(schedule.accumulate):
            batch = {name: tensor.to(self._fabric.device, non_blocking=True) for name, tensor in next(batches).items()}
            with self._fabric.no_backward_sync(self._wrapped, enabled=number + 1 < schedule.accumulate):
                saliency_map = self._wrapped(batch["video"], batch.get("audio"))
                loss = saliency_loss(
                    saliency_map[:, 0], batch["density"], kl_weight=schedule.kl_weight, cc_weight=schedule.cc_weight
                )
                self._fabric.backward(loss / schedule.accumulate)
            total += loss.detach() / schedule.accumulate
        if schedule.clip_norm:
            self._fabric.clip_gradients(self._wrapped, self._optimiser, max_norm=schedule.clip_norm)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            update_average(self._average, self._model.state_dict(), schedule.average, self._progress.steps + 1)
        mean = float(self._fabric.all_reduce(total, reduce_op="mean"))
        if not np.isfinite(mean) and self._experiment.precision == "fp32":
            raise UsageError(
                f"the loss of step {self._progress.steps + 1} is {mean}; use a smaller schedule.learning_rate, or set "
                "schedule.clip_norm to 1"
            )
        return mean

    def _validate(self) -> None:
        progress, experiment, schedule = self._progress, self._experiment, self._experiment.schedule
        mine = self._validation_items[self._share.rank :: self._share.processes]
        done = iter(range(1, len(mine) + 1))
        config = self._model.config
        self._wrapped.eval()
        with average_weights(self._model, self._average):
            # Not through the wrapper: processes may have different numbers of windows, and nothing is to be averaged.
            with self._fabric.autocast():
                sums = validation_sums(
                    self._model,
                    mine,
                    config.clip,
                    config.audio,
                    every=experiment.data.validation_every,
                    kl_weight=schedule.kl_weight,
                    cc_weight=schedule.cc_weight,
                    device=self._fabric.device,
                    progress=lambda: self._report("validation", next(done), len(mine), None),
                )
            sums = self._fabric.all_reduce(sums.to(self._fabric.device), reduce_op="sum").cpu()
            if not sums[-1]:
                raise UsageError("no frame of the validation videos has a map; `dtfsal check` says more")
            scores = means_of(sums)
            better = progress.best_loss is None or scores["loss"] < progress.best_loss
            chosen = better or schedule.select == "last"
            if chosen and self._share.rank == 0:
                made_by = json.dumps(experiment.to_dict(), sort_keys=True)
                save_weights(self._model, self._folder / BEST, metadata={"dtfsal.experiment": made_by})
        progress.validations.append(scores)
        progress.best_loss = scores["loss"] if better else progress.best_loss
        progress.epochs_without_gain = 0 if chosen else progress.epochs_without_gain + 1
        if self._board is not None:
            for name, value in scores.items():
                self._board.add_scalar(f"{name}/validation", value, progress.steps)

    def _save(self) -> None:
        if self._share.rank == 0:
            save_checkpoint(
                self._folder, self._experiment, self._progress, self._model, self._adam, self._average, self._scaler()
            )
            (self._folder / "run.json").write_text(json.dumps(self._summary(), indent=1) + "\n")
        self._fabric.barrier()

    def _scaler(self) -> dict[str, Any]:
        """Of FP16, what gradients are scaled by."""
        scaler = getattr(self._fabric.strategy.precision, "scaler", None)
        return {} if scaler is None else dict(scaler.state_dict())

    def _summary(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "experiment": self._experiment.to_dict(),
            "processes": self._share.processes,
            "device": str(self._fabric.device),
            "parameters": sum(parameter.numel() for parameter in self._model.parameters()),
            "trained_parameters": sum(parameter.numel() for parameter in self._parameters),
            "epochs": progress.epoch,
            "steps": progress.steps,
            "seconds": round(time.perf_counter() - self._started, 1),
            "best_loss": progress.best_loss,
            "validations": progress.validations,
            "losses": progress.losses,
        }


def _fabric(experiment: Experiment, accelerator: str) -> Any:
    """Lightning Fabric for this process: alone, or one of those that `torchrun` started."""
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise UnavailableError("training needs Lightning Fabric; run `pip install 'dtfsal[trainer]'`") from error
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("there is no GPU that PyTorch can use; leave --device out, or use --device cpu")
    if experiment.precision == "fp16" and (accelerator == "cpu" or not torch.cuda.is_available()):
        raise UsageError("precision: fp16 is for GPUs; on a CPU use bf16 or fp32")
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    precision: Any = PRECISIONS[experiment.precision]
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric


def _check_same(begun: Experiment, now: Experiment) -> None:
    before, after = _flat(begun.to_dict()), _flat(now.to_dict())
    differing = [name for name in before | after if before.get(name) != after.get(name) and name not in MAY_CHANGE]
    if differing:
        name = differing[0]
        raise UsageError(
            f"the run was begun with {name} = {before.get(name)!r}, not {after.get(name)!r}; restore it, or start a "
            "new run"
        )


def _flat(values: dict[str, Any], place: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        result |= _flat(value, f"{place}{name}.") if isinstance(value, dict) else {f"{place}{name}": value}
    return result


@contextlib.contextmanager
def _made_folder(run: Path, fabric: Any) -> Iterator[None]:
    """The run's folder, for this run alone; if it is new and nothing was kept in it, it goes again."""
    new = not run.exists()
    if fabric.global_rank == 0:
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {run}: {error.strerror or error}") from error
    fabric.barrier()
    try:
        with held(run / FILE) if fabric.global_rank == 0 else contextlib.nullcontext():
            yield
    finally:
        if new and fabric.global_rank == 0:
            with contextlib.suppress(OSError):
                run.rmdir()


def _board(run: Path, steps: int) -> Any:
    """TensorBoard's log, without what was written after the checkpoint; None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=steps + 1)
