"""The trainer: every data set trains and is scored; a killed run ends as one that was not; two processes are as one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from dtfsal.engines.errors import UsageError
from dtfsal.engines.partial import held
from dtfsal.export.graph.lowering import Forms, lowered
from dtfsal.runtime.cli import main
from dtfsal.training import build_model
from dtfsal.training.data.datasets import open_dataset
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.weights import WeightsError, load_weights, save_weights
from dtfsal.training.trainer.batches import Share, epoch_batches
from dtfsal.training.trainer.cross_process_norm import CrossProcessBatchNorm2d, across_processes
from dtfsal.training.trainer.experiment import DataChoice, experiment_from
from dtfsal.training.trainer.loop import train
from dtfsal.training.trainer.start import checkpoint_blocks, take_over, trained_parameters
from dtfsal.training.trainer.videos import experiment_videos, held_out_names

SMALL = {"frames": 4, "height": 64, "width": 96}


def experiment_of(root, dataset="avad", *, preset="tiny", fold=None, data=None, schedule=None, **settings):
    return experiment_from(
        {
            "name": "test",
            "model": {"preset": preset, **SMALL},
            "data": {
                "dataset": dataset,
                "root": str(root),
                "fold": fold,
                "workers": 0,
                "held_out": 0,  # miniatures have few videos
                "validation_every": 4,
                **(data or {}),
            },
            "schedule": {"epochs": 1, "learning_rate": 1e-3, **(schedule or {})},
            **settings,
        }
    )


@pytest.mark.parametrize(
    ("dataset", "preset", "fold"),
    [
        ("dhf1k", "tiny-v", None),
        ("ucf-sports", "tiny-v", None),
        ("diem", "tiny", None),
        *((name, "tiny", 2) for name in ("avad", "coutrot1", "coutrot2", "summe", "etmd")),
        ("videos", "tiny", None),
    ],
)
def test_every_data_set_trains_two_steps_and_is_scored(make_miniature, tmp_path, dataset, preset, fold):
    options = {"videos": ("a", "b", "c")} if dataset == "videos" else {}
    root = make_miniature(dataset, count=6, **options)
    seen = []
    result = train(
        experiment_of(root, dataset, preset=preset, fold=fold),
        tmp_path / "run",
        accelerator="cpu",
        report=lambda what, done, of, loss: seen.append((what, done, of, loss is None)),
    )
    assert result["steps"] == 2
    assert np.isfinite(result["losses"]).all()
    (scores,) = result["validations"]
    assert set(scores) == {"loss", "cc", "kl", "sim", "nss"}
    assert scores["loss"] == pytest.approx(scores["kl"] - scores["cc"], abs=1e-6)
    assert -1 <= scores["cc"] <= 1
    assert 0 <= scores["sim"] <= 1
    assert seen == [("epoch 1/1", 1, 2, False), ("epoch 1/1", 2, 2, False), ("validation", 1, 1, True)]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("best.safetensors", "last.safetensors", "run.json", "tensorboard")
    }
    model = load_weights(tmp_path / "run" / "best.safetensors")
    assert model.config.clip.frames == 4


def write_experiment(path, experiment):
    path.write_text(yaml.safe_dump(experiment.to_dict()))
    return path


def command(*arguments):
    """The command line in a process of its own, which may be killed."""
    code = "import sys; from dtfsal.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *map(str, arguments)]


def assert_same(first: Path, second: Path):
    one, other = load_file(first), load_file(second)
    assert set(one) == set(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_that_is_killed_goes_on_to_the_same_weights_bit_for_bit(make_miniature, tmp_path):
    root = make_miniature("avad", count=8)
    experiment = experiment_of(
        root,
        fold=1,
        data={
            "windows_per_video": 6,
            "flip_share": 0.5,
            "colour_share": 0.5,
            "gain_db": 3.0,
            "temporal_strides": [1, 2],
        },
        schedule={"epochs": 2, "save_every": 2, "average": 0.9, "clip_norm": 1.0, "accumulate": 2, "patience": 5},
    )
    file = write_experiment(tmp_path / "e.yaml", experiment)
    whole = train(experiment, tmp_path / "whole", accelerator="cpu")
    assert whole["steps"] == 12
    killed = tmp_path / "killed"
    process = subprocess.Popen(command("train", file, "-o", killed, "--device", "cpu"))
    while not (killed / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = json.loads((killed / "run.json").read_text())
    assert left["steps"] < 12
    assert main(["train", str(file), "-o", str(killed), "--device", "cpu", "--resume", "--json"]) == 0
    assert_same(tmp_path / "whole" / "last.safetensors", killed / "last.safetensors")
    assert_same(tmp_path / "whole" / "best.safetensors", killed / "best.safetensors")
    after = json.loads((killed / "run.json").read_text())
    assert (after["losses"], after["validations"]) == (whole["losses"], whole["validations"])
    # And once it has ended, there is nothing to go on with, but it may be prolonged.
    assert main(["train", str(file), "-o", str(killed), "--device", "cpu", "--resume"]) == 0
    assert json.loads((killed / "run.json").read_text())["steps"] == 12
    longer = ["--set", "schedule.epochs=3"]
    assert main(["train", str(file), "-o", str(killed), "--device", "cpu", "--resume", *longer]) == 0
    assert json.loads((killed / "run.json").read_text())["steps"] == 18


def test_two_processes_are_as_one_with_both_batches(make_miniature, tmp_path):
    root = make_miniature("avad", count=6, videos=tuple(f"V{n}" for n in range(6)))
    settings = {"data": {"windows_per_video": 1, "flip_share": 0.5}, "schedule": {"batch_size": 4}}
    one = train(experiment_of(root, fold=1, **settings), tmp_path / "one", accelerator="cpu")
    settings["schedule"] = {"batch_size": 2}
    file = write_experiment(tmp_path / "e.yaml", experiment_of(root, fold=1, **settings))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--no-python"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *command("train", file, "-o", tmp_path / "two", "--device", "cpu")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best validation loss") == 1  # one of them speaks
    two = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (one["steps"], two["steps"], two["processes"]) == (1, 1, 2)
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-6)
    # After one step Adam's first moment is a tenth of the gradient.
    a, b = (load_file(tmp_path / run / "last.safetensors") for run in ("one", "two"))
    gradients = [name for name in a if name.startswith("adam.exp_avg/")]
    largest = max(a[name].abs().max() for name in gradients)
    assert largest > 0
    # Sums of another order in float32, through the kinks of ReLUs, relative to the largest gradient: 2e-5 with AVX2's
    # kernels, 1e-4 with AVX-512's. A gradient without the other process's half would be off by its own size.
    for name in gradients:
        torch.testing.assert_close(b[name], a[name], rtol=0, atol=float(1e-3 * largest), msg=name)
    for name in (name for name in a if "running_" in name):
        torch.testing.assert_close(b[name], a[name], rtol=1e-5, atol=1e-6, msg=name)
    # Of the validation every process had a part.
    assert two["validations"][0]["kl"] == pytest.approx(one["validations"][0]["kl"], abs=5e-3)


def test_accumulated_batches_are_one_large_batch_without_normalisation(make_miniature, tmp_path):
    """With frozen statistics, that is; a batch normalisation sees each batch by itself."""
    shares = [Share(rank, 2) for rank in range(2)]
    for epoch in range(3):
        together = epoch_batches(13, 5, epoch, batch_size=6, accumulate=1, share=Share())
        apart = [epoch_batches(13, 5, epoch, batch_size=3, accumulate=1, share=share) for share in shares]
        summed = epoch_batches(13, 5, epoch, batch_size=3, accumulate=2, share=Share())
        assert len(together) == len(summed) == 2
        for step, whole in enumerate(together):
            assert sorted(whole[0]) == sorted(apart[0][step][0] + apart[1][step][0])
            assert sorted(whole[0]) == sorted(summed[step][0] + summed[step][1])
    assert together != epoch_batches(13, 5, 0, batch_size=6, accumulate=1, share=Share())
    with pytest.raises(UsageError, match="an epoch has 3 windows, and a step takes 4"):
        epoch_batches(3, 0, 0, batch_size=2, accumulate=2, share=Share())


def test_the_normalisation_of_one_process_is_pytorchs():
    model = nn.Sequential(nn.BatchNorm2d(3))
    across_processes(model)
    assert type(model[0]) is CrossProcessBatchNorm2d
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 6)
    plain = nn.BatchNorm2d(3)
    torch.testing.assert_close(model(x), plain(x))
    torch.testing.assert_close(model[0].running_var, plain.running_var)


@pytest.fixture(scope="module")
def visual_weights(make_miniature, tmp_path_factory):
    """A visual model whose batch normalisations have seen some windows."""
    torch.manual_seed(3)
    model = build_model(experiment_of("none", preset="tiny-v").model.config())
    for _ in range(3):
        model(torch.randn(2, 3, SMALL["frames"], SMALL["height"], SMALL["width"]))
    path = tmp_path_factory.mktemp("visual") / "visual.safetensors"
    save_weights(model, path)
    return path


def moved(run: Path, start: Path):
    """The names of a start's tensors that are not bit for bit the same in a run's checkpoint."""
    before, after = load_file(start), load_file(run / "last.safetensors")
    return {name for name, tensor in before.items() if not torch.equal(after[f"model/{name}"], tensor)}


def test_frozen_parts_do_not_move_in_fifty_steps_bit_for_bit(make_miniature, visual_weights, tmp_path):
    root = make_miniature("avad", count=4)
    experiment = experiment_of(
        root,
        fold=1,
        trained="fusion",
        start={"weights": str(visual_weights)},
        data={"windows_per_video": 25},
        schedule={"average": 0.9, "weight_decay": 0.1},
    )
    result = train(experiment, tmp_path / "run", accelerator="cpu")
    assert result["steps"] == 50
    assert 0 < result["trained_parameters"] < result["parameters"]
    assert moved(tmp_path / "run", visual_weights) == set()  # parameters and buffers alike
    best, before = load_file(tmp_path / "run" / "best.safetensors"), load_file(visual_weights)
    assert [name for name, tensor in before.items() if not torch.equal(best[name], tensor)] == []
    # And what is trained has moved, its normalisations' statistics too.
    torch.manual_seed(experiment.seed)
    fresh, last = build_model(experiment.model.config()).state_dict(), load_file(tmp_path / "run" / "last.safetensors")
    for name, tensor in fresh.items():
        if name.startswith("fusion.") and tensor.is_floating_point():
            assert not torch.equal(last[f"model/{name}"], tensor), name


def test_frozen_normalisations_keep_their_statistics_and_train_the_rest(make_miniature, visual_weights, tmp_path):
    root = make_miniature("dhf1k", count=4)
    start = {"weights": str(visual_weights)}
    for name, normalisation in (("frozen", "frozen"), ("moving", "cross-process")):
        experiment = experiment_of(root, "dhf1k", preset="tiny-v", start=start, normalisation=normalisation)
        train(experiment, tmp_path / name, accelerator="cpu")
    statistics = {name for name in load_file(visual_weights) if "running_" in name or "num_batches" in name}
    assert statistics
    assert moved(tmp_path / "frozen", visual_weights).isdisjoint(statistics)
    assert moved(tmp_path / "frozen", visual_weights)
    assert moved(tmp_path / "moving", visual_weights) >= statistics
    with pytest.raises(UsageError, match="normalisation: frozen needs statistics to keep"):
        experiment_of(root, "dhf1k", preset="tiny-v", normalisation="frozen")


@pytest.mark.parametrize("changes", [{}, {"decoder": "unet"}, {"decoder": "single"}])
def test_layer_normalisation_is_the_same_in_training_and_at_prediction(changes):
    """Of a batch of one, too: what batch normalisation can not do."""
    torch.manual_seed(0)
    config = experiment_of("none", preset="tiny").model.config()
    config = dataclasses.replace(config, normalisation="layer", **changes)
    model = build_model(ModelConfig.from_dict(config.to_dict()))
    video, audio = torch.randn(1, 3, 4, 64, 96), torch.randn(1, 9, 1, 32, 48)
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    torch.testing.assert_close(model.train()(video, audio), model.eval()(video, audio), rtol=0, atol=0)
    batch = build_model(dataclasses.replace(config, normalisation="batch"))
    assert "normalisation" not in batch.config.to_dict()
    assert not torch.equal(batch.train()(video, audio), batch.eval()(video, audio))


def test_no_engine_is_built_of_layer_normalisation():
    config = dataclasses.replace(experiment_of("none", preset="tiny").model.config(), normalisation="layer")
    with pytest.raises(UsageError, match="has the normalisation 'layer', which is for comparisons"):
        lowered(build_model(config), Forms(deform_conv="gather"))


def test_a_tenth_of_the_training_videos_chooses_the_checkpoint(make_miniature):
    root = make_miniature("avad", count=3, videos=tuple(f"V{n}" for n in range(15)))
    data = {"dataset": "avad", "root": str(root), "fold": 1}
    trained, held = experiment_videos(DataChoice(**data))
    own = open_dataset("avad", root, "train", fold=1)
    assert (len(trained), len(held)) == (9, 1)
    assert {item.name for item in (*trained, *held)} == {item.name for item in own}
    reported = {item.name for item in open_dataset("avad", root, "test", fold=1)}
    assert reported.isdisjoint(item.name for item in held)
    assert [item.name for item in held] == [item.name for item in experiment_videos(DataChoice(**data))[1]]
    third = experiment_videos(DataChoice(**data, held_out=0.3))
    assert (len(third[0]), len(third[1])) == (7, 3)
    assert {item.name for item in experiment_videos(DataChoice(**data, held_out=0))[1]} == reported
    names = [f"V{n}" for n in range(50)]
    assert held_out_names(names, 0.1) == held_out_names(names[::-1], 0.1)
    with pytest.raises(UsageError, match="of 1 training videos none is left"):
        held_out_names(["V1"], 0.1)
    # Prepared videos have a validation split of their own, and a test split besides.
    mine = make_miniature("videos", count=3, videos=("a", "b", "c"))
    validation = open_dataset("videos", mine, "validation")
    found = experiment_videos(DataChoice(dataset="videos", root=str(mine)))[1]
    assert [item.name for item in found] == [item.name for item in validation]


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_best_or_the_last_weights_are_kept(make_miniature, tmp_path, select):
    """At a rate that ruins the weights every epoch is worse than the first."""
    root = make_miniature("dhf1k", count=3)
    schedule = {"epochs": 3, "patience": 1, "learning_rate": 30.0, "decay": 1.0, "save_every": 1}
    file = write_experiment(tmp_path / "e.yaml", experiment_of(root, "dhf1k", preset="tiny-v", schedule=schedule))
    run = tmp_path / "run"
    assert main(["train", str(file), "-o", str(run), "--device", "cpu", "--select", select, "--json"]) == 0
    losses = [scores["loss"] for scores in json.loads((run / "run.json").read_text())["validations"]]
    best, last = load_file(run / "best.safetensors"), load_file(run / "last.safetensors")
    kept_last = all(torch.equal(best[name], last[f"model/{name}"]) for name in best)
    if select == "last":
        assert len(losses) == 3  # whatever patience says
        assert kept_last
    else:
        assert kept_last == (losses.index(min(losses)) == len(losses) - 1)
        assert len(losses) == min(losses.index(min(losses)) + 1 + 1, 3)


def test_checkpointed_blocks_give_the_same_gradients():
    torch.manual_seed(0)
    model = build_model("tiny-v").eval()
    video = torch.randn(1, 3, 16, 96, 160)
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(video).mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        checkpoint_blocks(model)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    model.encoder = nn.Identity()
    with pytest.raises(UsageError, match="has no blocks"):
        checkpoint_blocks(model)


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(build_model("lite"), tmp_path / "lite.safetensors")
    with pytest.raises(WeightsError, match="is of another model than tiny"):
        take_over(build_model("tiny"), tmp_path / "lite.safetensors")


def test_bfloat16_and_worker_processes(make_miniature, tmp_path):
    root = make_miniature("videos", count=6, videos=("a", "b", "c"))
    results = []
    for workers, precision in ((0, "fp32"), (2, "fp32"), (0, "bf16")):
        experiment = experiment_of(root, "videos", data={"workers": workers}, precision=precision)
        results.append(train(experiment, tmp_path / f"{workers}{precision}", accelerator="cpu"))
    assert results[1]["losses"] == results[0]["losses"]  # whoever reads the data
    assert results[2]["losses"] != results[0]["losses"]
    assert results[2]["losses"] == pytest.approx(results[0]["losses"], rel=0.05)  # 8 bits of precision
    assert load_file(tmp_path / "0bf16" / "best.safetensors")["final.weight"].dtype == torch.float32


def test_nothing_to_train_is_told():
    with pytest.raises(UsageError, match="nothing of this model"):
        trained_parameters(build_model("tiny-v"), "fusion")


def test_what_cannot_be_run_is_one_sentence_and_leaves_nothing(make_miniature, tmp_path, capsys):
    root = make_miniature("avad", count=3)
    file = write_experiment(tmp_path / "e.yaml", experiment_of(root, fold=1))
    run = tmp_path / "run"
    train_it = ["train", str(file), "-o", str(run), "--device", "cpu"]
    for extra, code, message in (
        (["--set", "data.root=nowhere"], 3, "there is no folder nowhere"),
        (["--set", "data.fold=7"], 2, "AVAD has the folds"),
        (["--set", "start.weights=none.safetensors"], 4, "there is no weights file"),
        (["--set", "schedule.batch_size=50"], 2, "an epoch has 2 windows"),
        (["--resume"], 4, "holds no checkpoint"),
        (["--set", "precision=fp16"], 2, "fp16 is for GPUs"),
        (["--epochs", "3"], 2, "unrecognized arguments: --epochs 3"),
    ):
        assert main([*train_it, *extra]) == code, extra
        assert message in capsys.readouterr().err
        assert not (run / "last.safetensors").exists()
    assert main(["train", "-o", str(run)]) == 2
    run.mkdir(exist_ok=True)
    with held(run / "last.safetensors"):
        assert main(train_it) == 6
    assert "last.safetensors is being written by another run" in capsys.readouterr().err
    assert main(train_it) == 0
    assert not [path for path in run.iterdir() if "dtfsal" in path.name]
    assert main(train_it) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*train_it, "--resume", "--set", "seed=3"]) == 2
    assert "was begun with seed = 0, not 3" in capsys.readouterr().err
    (run / "last.safetensors").write_bytes(b"damaged")
    assert main([*train_it, "--resume"]) == 4
    assert "cannot be read as a checkpoint" in capsys.readouterr().err


def test_it_ends_when_patience_does(make_miniature, tmp_path):
    """A rate of nearly nothing betters nothing, to the digits of a float32."""
    root = make_miniature("avad", count=3)
    schedule = {"epochs": 9, "patience": 2, "learning_rate": 1e-30}
    result = train(experiment_of(root, fold=1, schedule=schedule), tmp_path / "run", accelerator="cpu")
    assert result["epochs"] <= 9
    losses = [scores["loss"] for scores in result["validations"]]
    best = losses.index(min(losses))
    assert result["epochs"] == min(best + 1 + 2, 9)


@pytest.mark.slow
def test_eight_clips_are_learned_by_heart(make_miniature, tmp_path):
    root = make_miniature("diem", count=12, size=(48, 80), videos=(*(f"V{n}" for n in range(8)), "V0"))
    lists = root / "fold_lists"
    (lists / "DIEM_list_test_fps.txt").write_text((lists / "DIEM_list_train_fps.txt").read_text())
    schedule = {
        "epochs": 25,
        "patience": 25,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "decay_every": 12,
        "clip_norm": 1.0,
    }
    experiment = experiment_of(root, "diem", data={"windows_per_video": 4}, schedule=schedule)
    result = train(experiment, tmp_path / "run", accelerator="cpu")
    assert max(scores["cc"] for scores in result["validations"]) > 0.95
