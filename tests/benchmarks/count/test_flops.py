"""Counts against the paper's tables, hand counts, and PyTorch's own counter."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dtfsal.benchmarks.count.flops import (
    FORMS,
    PAPER_DECODERS_MILLIONS,
    PAPER_ROWS,
    beside_paper,
    count,
    count_forms,
    macs_of_one_token_map,
)
from dtfsal.benchmarks.count.flops_report import paper_markdown
from dtfsal.benchmarks.count.plain import plain
from dtfsal.benchmarks.count.torch_memory import FusedOnMeta
from dtfsal.benchmarks.count.torch_operations import OtherOperations
from dtfsal.export.graph.parts import window_part
from dtfsal.runtime.cli import main
from dtfsal.training import PRESETS, build_model
from dtfsal.training.model.blocks import LTEB
from dtfsal.training.model.seeded import seeded_model, synthetic_window

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
POSITIONS = 56 * 96 + 28 * 48 + 14 * 24 + 7 * 12  # of all levels at 224x384


@pytest.mark.parametrize("preset", PAPER_ROWS)
def test_the_papers_tables(preset):
    paper, report = PAPER_ROWS[preset], count(preset)
    assert report.total.parameters / 1e6 == pytest.approx(paper.parameters_millions, rel=0.005)
    assert report.size_mib == pytest.approx(paper.size_mib, rel=0.005)
    assert report.total.macs / 1e9 == pytest.approx(paper.gflops, rel=0.035)
    assert report.parts["decoders"].parameters / 1e6 == pytest.approx(PAPER_DECODERS_MILLIONS, rel=0.03)


def test_the_written_form_is_above_the_papers_figures():
    """What the rewrites save: eq. 7's 3x3 convolution of 16 mixtures at four levels."""
    forms = count_forms("dtfsal-v")
    written, deployed = forms["written"], forms["deployed"]
    token_map = POSITIONS * 192 * 192 * 9
    assert written.parts["enhance"].macs - deployed.parts["enhance"].macs == 16 * token_map
    assert macs_of_one_token_map(forms, 16) == written.total.macs - 15 * token_map
    assert written.total.macs / 1e9 == pytest.approx(1.1810 * PAPER_ROWS["dtfsal-v"].gflops, rel=1e-4)
    saved = {name for name in written.parts if written.parts[name].macs != deployed.parts[name].macs}
    assert saved == {"enhance", "decoders"}


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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("preset", ["tiny", "tiny-v", "lite", "dtfsal-v", "dtfsal"])
def test_the_papers_convention_by_pytorchs_counter(preset, form):
    """The operators of convolution and linear layers, two for each MAC, where ours hooks modules and takes shapes.

    Products of the fusion's deformable convolution are in no such operator, so they are added by hand.
    """
    with torch.device("meta"):
        model = build_model(preset).eval()
    config = model.config
    if form == "written":
        model = plain(model)
    else:
        for block in model.modules():
            if isinstance(block, LTEB):
                block.fold_tokens()
    inputs = (tensor.to("meta") for tensor in window_part(config, 1).example_inputs())
    with FusedOnMeta(), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    operators = counter.get_flop_counts()["Global"]
    layers = operators[torch.ops.aten.convolution] + operators[torch.ops.aten.addmm]
    if config.audio is not None:
        positions = config.times * (config.clip.height // 32) * (config.clip.width // 32)
        layers += 2 * positions * 2 * config.width * config.width * 9
    assert 2 * count(preset, form=form).total.macs == layers


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
    """16 times: 7, 3, 1 and 1 are left; widths 192, 64, 32, 32, 16; twice as fine after the second and the third."""
    forms = count_forms("dtfsal-v")
    macs = [POSITIONS * 192 * 64 * 27, POSITIONS * 64 * 32 * 27, 4 * POSITIONS * 32 * 32 * 27]
    macs += [16 * POSITIONS * 32 * 16 * 27]
    assert [round(number / 1e9, 2) for number in macs] == [2.37, 0.39, 0.79, 1.58]
    predict = 16 * POSITIONS * 16
    written = 7 * macs[0] + 3 * macs[1] + macs[2] + macs[3] + predict
    assert forms["written"].parts["decoders"].macs == written == pytest.approx(20.1e9, rel=2e-3)
    # In the last convolution only the central one of three temporal taps meets a time.
    assert forms["deployed"].parts["decoders"].macs == written - macs[3] * 2 // 3 == pytest.approx(19.1e9, rel=2e-3)


def test_batches_scale():
    one, two = count("tiny"), count("tiny", batch_size=2)
    assert two.total.macs == 2 * one.total.macs
    assert two.total.parameters == one.total.parameters


def test_the_command(capsys):
    assert main(["benchmark", "flops", "--preset", "dtfsal", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["paper"]["gflops"] == 297.91
    (row,) = [row for row in report["beside_paper"] if row["what"] == "GFLOPs as the paper counts"]
    assert (row["paper"], row["deployed"]) == (297.91, report["parts"]["total"]["macs"] / 1e9)
    assert row["written"] == count("dtfsal", form="written").total.macs / 1e9
    for form in FORMS:
        assert row["deviation_percent"][form] == pytest.approx(100 * (row[form] - 297.91) / 297.91)
    assert report["parts"]["total"]["macs"] == sum(
        cost["macs"] for name, cost in report["parts"].items() if name != "total"
    )
    assert main(["benchmark", "flops", "--preset", "dtfsal"]) == 0
    table = capsys.readouterr().out
    assert "1.74" in table
    assert "| GFLOPs as the paper counts | 297.91 | 336.42 (+12.9 %) | 297.47 (-0.1 %) |" in table
    assert main(["benchmark", "flops", "--preset", "tiny", "--json"]) == 0
    tiny = json.loads(capsys.readouterr().out)
    assert tiny["paper"] is None
    assert {row["paper"] for row in tiny["beside_paper"]} == {None}
    assert all(row["written"] >= row["deployed"] > 0 for row in tiny["beside_paper"][:3])
    assert main(["benchmark", "flops", "--preset", "huge"]) == 2


def test_the_papers_two_models(tmp_path, capsys):
    output = tmp_path / "paper.json"
    assert main(["benchmark", "flops", "--paper", "-o", str(output)]) == 0
    table = capsys.readouterr().out
    report = json.loads(output.read_text())
    assert table == output.with_suffix(".md").read_text() == paper_markdown(report)
    for model in report["models"]:
        assert model["beside_paper"] == [row.to_dict() for row in beside_paper(count_forms(model["model"]))]
    # The document's table has no figure of the machine, so that a stale one is found anywhere.
    assert table == (RESULTS / "flops-paper.md").read_text(), "run: dtfsal benchmark refresh --only flops-paper"
    for words in (["--form", "written"], ["--roofline"], ["--engine", "some.engine"]):
        assert main(["benchmark", "flops", "--paper", *words]) == 2
    assert "give no --form, --engine or --roofline" in capsys.readouterr().err


def test_hand_count_of_an_mvit_block():
    """Block 0 of tiny: one head of 16 channels, 1 + 8x24x40 tokens, keys pooled by 8 to 1 + 8x3x5, an MLP of 64."""
    encoder = build_model("tiny").encoder.to("meta")
    block, grid = encoder.blocks[0], (8, 24, 40)
    tokens, keys, channels = 1 + 8 * 24 * 40, 1 + 8 * 3 * 5, 16
    with FusedOnMeta(), OtherOperations() as other, FlopCounterMode(display=False) as counter, torch.no_grad():
        block(torch.empty(1, tokens, channels, device="meta"), grid)
    values, pooled = tokens * channels, keys * channels
    arithmetic = 7 * values + 3 * values  # norm1; the bias of q, k, v
    arithmetic += 7 * (values + 2 * pooled)  # the norms behind the poolings
    arithmetic += values + 5 * tokens * keys + (values - channels)  # scale, softmax, residual pooling
    arithmetic += values + values + 7 * values  # the projection's bias, the skip, norm2
    arithmetic += (1 + 5) * 4 * values + values + values  # the MLP's first bias and GELU, its second bias, the skip
    assert other.total == arithmetic
    macs = values * channels * (3 + 1 + 4 + 4)  # q, k, v, the projection, the MLP
    macs += 27 * (values - channels + 2 * (pooled - channels))  # the poolings
    macs += (values - channels) * (8 + 3 + 5)  # q R
    # The fused attention is none of the operators that PyTorch's counter knows.
    assert counter.get_total_flops() == 2 * macs


def test_hand_count_of_the_token_enhancement():
    """Tiny: LTEB at three levels and DLTFB at the last, 8 times of 32 channels."""
    model = build_model("tiny")
    blocks = dict(zip(((24, 40), (12, 20), (6, 10), (3, 5)), model.enhance, strict=True))
    tokens = [len(block.tokens) for block in blocks.values()]
    macs = other = 0
    for (h, w), number in zip(blocks, tokens, strict=True):
        values = 8 * h * w * 32
        macs += values * 32 * 9 + 8 * 32 * number  # eq. 4's gate, the weights
        # The gate's bias, sigmoid and mean, P'' x + x; the weights' bias and softmax.
        other += values * (1 + 4 + 1 + 1 + 1) + 8 * number * (1 + 5)
    values = 8 * 3 * 5 * 32
    macs += values * 32 * (1 + 9 + 1)  # eq. 9 and 10
    other += values * (1 + 5 + 1 + 7 + 1 + 1)  # biases, GELU, LayerNorm, the skip
    enhance = count("tiny").parts["enhance"]
    assert (enhance.macs, enhance.other_operations) == (macs, other)


def test_hand_count_of_the_top_down_path():
    """Tiny: levels of 16, 32, 64 and 128 channels to 32; f3 takes one resized level, f2 and f1 take two each."""
    sizes = (24 * 40, 12 * 20, 6 * 10, 3 * 5)
    macs = 8 * sum(size * channels * 32 for size, channels in zip(sizes, (16, 32, 64, 128), strict=True))
    macs += 8 * sum(sizes[:3]) * 32 * 32 * 9
    biases = sum(sizes) + sum(sizes[:3])
    other = 8 * 32 * (biases + (9 + 1) * (2 * sizes[0] + 2 * sizes[1] + sizes[2]))  # resized, and added
    top_down = count("tiny").parts["top_down"]
    assert (top_down.macs, top_down.other_operations) == (macs, other)


def test_hand_count_of_the_sound_encoder():
    """Tiny: VGGish on 9 slices of 48x80, then a Transformer layer on 9 x 3x5 tokens of 32 channels, two heads."""
    layers = [(48 * 80, 1, 8), (24 * 40, 8, 16), (12 * 20, 16, 32), (12 * 20, 32, 32), (60, 32, 64), (60, 64, 64)]
    macs = 9 * sum(size * before * after * 9 for size, before, after in layers)
    other = 9 * sum(size * after * (1 + 1) for size, _, after in layers)  # bias, ReLU
    other += 9 * (24 * 40 * 8 + 12 * 20 * 16 + 60 * 32 + 15 * 64) * 4  # greatest of 2x2
    tokens = 9 * 15
    macs += tokens * 32 * (64 + 3 * 32 + 32 + 128 + 128)  # embedding; q, k, v; projection; MLP
    values = tokens * 32
    other += values * (1 + 1 + 7 + 3 + 1 + 1 + 7 + 1 + 1)  # embedding and time; norm; biases, skips
    other += values * 4 * (1 + 5) + 2 * tokens * tokens * 5  # the MLP's bias and GELU; the scores' softmax
    audio = count("tiny").parts["audio"]
    assert (audio.macs, audio.attention_macs) == (macs, 2 * tokens * tokens * (16 + 16))
    assert audio.other_operations == other


def test_hand_count_of_the_decoders_other_arithmetic():
    """Tiny: times 8, 3, 1, 1, 1; bias, batch norm and ReLU are four operations; resized twice, then to 96x160."""
    other = 0
    for height, width in ((24, 40), (12, 20), (6, 10), (3, 5)):
        size = height * width
        other += 4 * size * (3 * 16 + 16 + 4 * 8 + 16 * 8)
        other += 9 * size * (4 * 16 + 16 * 8)
        other += 16 * size  # the map's bias
        other += 9 * 96 * 160 if height < 24 else 0
    assert count("tiny").parts["decoders"].other_operations == other


# Operators that make values and count nothing: they move, make constants, or count as products elsewhere.
UNCOUNTED = {
    *("_to_copy", "_unsafe_view", "alias", "cat", "clone", "constant_pad_nd", "detach", "expand", "flatten", "index"),
    *("index_select", "lift_fresh", "permute", "repeat", "reshape", "roll", "select", "slice", "split", "squeeze"),
    *("stack", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "_reshape_alias", "split_with_sizes"),
    *("arange", "empty", "eye", "full", "new_full", "ones", "zeros", "new_zeros", "new_empty", "zero_", "fill_"),
    *("bmm", "mm", "linspace", "scalar_tensor", "copy_", "as_strided", "unsafe_split", "gather", "convolution"),
}


@pytest.mark.parametrize("preset", ["lite", "tiny", "dtfsal-v"])
def test_every_operator_that_computes_is_counted(preset):
    """What makes floating-point values and is not counted is known to move values only, or is a product."""
    seen: set[str] = set()

    class Seen(OtherOperations):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            output = super().__torch_dispatch__(func, types, args, kwargs)
            first = output[0] if isinstance(output, (tuple, list)) else output
            if isinstance(first, torch.Tensor) and first.is_floating_point() and first.numel():
                seen.add(func._schema.name.removeprefix("aten::"))
            return output

    with torch.device("meta"):
        model = build_model(preset).eval()
        inputs = tuple(tensor.to("meta") for tensor in window_part(model.config, 1).example_inputs())
    with FusedOnMeta(), torch.no_grad(), Seen() as counter:
        model(*inputs)
    assert seen - set(counter.by_operator) <= UNCOUNTED
