"""Counts against the paper's tables, hand counts, and PyTorch's own counter."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dtfsal.benchmarks.flops import PAPER_DECODERS_MILLIONS, PAPER_ROWS, count
from dtfsal.benchmarks.plain import plain
from dtfsal.runtime.cli import main
from dtfsal.training import PRESETS, build_model
from dtfsal.training.seeded import seeded_model, synthetic_window


@pytest.mark.parametrize("preset", PAPER_ROWS)
def test_the_papers_tables(preset):
    paper, report = PAPER_ROWS[preset], count(preset)
    assert report.total.parameters / 1e6 == pytest.approx(paper.parameters_millions, rel=0.005)
    assert report.size_mib == pytest.approx(paper.size_mib, rel=0.005)
    assert report.total.macs / 1e9 == pytest.approx(paper.gflops, rel=0.05)
    assert report.parts["decoders"].parameters / 1e6 == pytest.approx(PAPER_DECODERS_MILLIONS, rel=0.03)


def test_the_written_form_is_above_the_papers_figures():
    """What the rewrites save: eq. 7's 3x3 convolution of 16 mixtures at four levels."""
    positions = 56 * 96 + 28 * 48 + 14 * 24 + 7 * 12
    written, deployed = (count("dtfsal-v", form=form) for form in ("written", "deployed"))
    saved = written.parts["enhance"].macs - deployed.parts["enhance"].macs
    assert saved == 16 * positions * 192 * 192 * 9
    assert written.total.macs / 1e9 == pytest.approx(1.1506 * PAPER_ROWS["dtfsal-v"].gflops, rel=1e-3)


def test_parameters_are_the_models():
    report = count("tiny")
    assert report.total.parameters == sum(p.numel() for p in build_model("tiny").parameters())


@pytest.mark.parametrize("preset", ["tiny", "tiny-v"])
def test_pytorchs_counter_agrees(preset):
    """FlopCounterMode sees each matrix product and convolution of the plain form, and counts two per MAC."""
    model = plain(seeded_model(preset))
    # The CPU's fused attention is not among the operators that the counter knows; its mathematical form is.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(*synthetic_window(model.config))
    ours = count(preset, form="written").total
    # It also counts what is in no module: the token mixtures, the resampling of sound in time, the scores' products.
    assert ours.true_flops == pytest.approx(counter.get_total_flops(), rel=0.002)
    assert ours.true_flops <= counter.get_total_flops()


def test_hand_count_of_the_attentions():
    """MViTv2-S at 32x224x384; block 0 has one head, 86,016 patches and 1,344 pooled keys."""
    config = PRESETS["dtfsal-v"]
    report = count(config)
    queries, keys = 1 + 16 * 56 * 96, 1 + 16 * 7 * 12
    scores = queries * keys * 96 * 2
    sizes = [(2, 16 * 28 * 48, 16 * 14 * 24), (2, 16 * 28 * 48, 16 * 7 * 12), (4, 16 * 14 * 24, 16 * 14 * 24)]
    sizes += [(4, 16 * 14 * 24, 16 * 7 * 12)] * 10 + [(8, 16 * 7 * 12, 16 * 14 * 24), (8, 16 * 7 * 12, 16 * 7 * 12)]
    for heads, patches, pooled in sizes:
        scores += heads * (1 + patches) * (1 + pooled) * 96 * 2
    assert report.parts["encoder"].attention_macs == scores


def test_hand_count_of_the_fusion():
    """AMFB at 7x12, 16 times: 3x3, 5x5, deformable 3x3 and its 27 offsets and masks from 384 channels; 576 to 3."""
    positions = 16 * 7 * 12
    macs = positions * 384 * (192 * 9 + 192 * 25 + 192 * 9 + 27 * 9) + 576 * 3
    assert count("dtfsal").parts["fusion"].macs == macs


def test_hand_count_of_the_decoders():
    written, deployed = (count("dtfsal-v", form=form).parts["decoders"].macs for form in ("written", "deployed"))
    expected_written = expected_deployed = 0
    for h, w in ((56, 96), (28, 48), (14, 24), (7, 12)):
        first = 4 * h * w * 192 * 64 * 27
        rest = [h * w * 64 * 32 * 9, 4 * h * w * 32 * 32 * 9, 16 * h * w * 32 * 16 * 9]
        predict = 16 * h * w * 16
        expected_written += first + 3 * sum(rest) + predict
        expected_deployed += first + 2 * rest[0] + rest[1] + rest[2] + predict  # taps on padding are left out
    assert written == expected_written
    assert deployed == expected_deployed


def test_batches_scale():
    one, two = count("tiny"), count("tiny", batch_size=2)
    assert two.total.macs == 2 * one.total.macs
    assert two.total.parameters == one.total.parameters


def test_the_command(capsys):
    assert main(["benchmark", "flops", "--preset", "dtfsal", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["paper"]["gflops"] == 297.91
    ours = report["parts"]["total"]["macs"] / 1e9
    assert report["deviation_percent"]["GFLOPs as counted there"] == pytest.approx(100 * (ours - 297.91) / 297.91)
    assert report["parts"]["total"]["macs"] == sum(
        cost["macs"] for name, cost in report["parts"].items() if name != "total"
    )
    assert main(["benchmark", "flops", "--preset", "dtfsal"]) == 0
    assert "1.74" in capsys.readouterr().out
    assert main(["benchmark", "flops", "--preset", "tiny", "--json"]) == 0
    tiny = json.loads(capsys.readouterr().out)
    assert tiny["paper"] is None
    assert tiny["deviation_percent"] == {}
    assert main(["benchmark", "flops", "--preset", "dtfsal"]) == 0
    assert "297.91" in capsys.readouterr().out
    assert main(["benchmark", "flops", "--preset", "huge"]) == 2
