"""The check on a GPU, as far as a CPU takes it: real parts at small size, and reports of made parts by hand."""

import contextlib
import dataclasses
import json
import types

import numpy as np
import pytest
import torch

from dtfsal.benchmarks.gpu import check as module
from dtfsal.benchmarks.gpu import forms as gpu_forms
from dtfsal.benchmarks.gpu.check import budget, gpu_check, in_a_process, markdown
from dtfsal.benchmarks.gpu.forms import BASELINE, torch_forms, with_ratios
from dtfsal.benchmarks.gpu.machine import measured_rates, tf32
from dtfsal.benchmarks.gpu.own_tests import outcome_of_tests, run_tests
from dtfsal.benchmarks.gpu.phases import Part, Settings, full_hd_clip, made_clip, phases, run_phase
from dtfsal.benchmarks.gpu.tensorrt_kernel import one_node_graph
from dtfsal.benchmarks.measure import stopwatch
from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.runtime.cli import main
from dtfsal.runtime.media.video import probe
from dtfsal.training.model.deform_conv import deform_conv2d

SETTINGS = Settings(preset="tiny-v", device="cpu", batch_sizes=(1,), runs=2, forms=("eager SDPA fp32",), engines=())


def made_timing(median_ms, batch_size):
    return {
        "median_ms": median_ms,
        "quartiles_ms": [median_ms, median_ms],
        "first_ms": median_ms,
        "windows_per_second": 1e3 * batch_size / median_ms,
    }


def made_row(form, median_ms, precision="fp32", batch_size=1, tflops=1.0):
    return {
        "form": form,
        "batch_size": batch_size,
        "host": made_timing(median_ms, batch_size),
        "device": made_timing(median_ms / 2, batch_size),
        "precision": precision,
        "true_tflops": tflops,
        "peak_memory_bytes": 3 * 2**20,
        "parity": {"cc": 0.5, "peak_shift_pixels": 1.0},
    }


def test_ratios_are_to_the_baseline_of_the_same_batch():
    rows = [
        made_row(BASELINE, 100.0),
        made_row("fast", 20.0, "fp16", tflops=5.0),
        made_row(BASELINE, 300.0, batch_size=2),
        made_row("fast", 50.0, "bf16", batch_size=2),
    ]
    done = with_ratios(rows, {"fp16_tflops": 50.0}, BASELINE)
    assert [row["ratio_to_baseline"]["host"] for row in done] == [1.0, 5.0, 1.0, 6.0]
    assert [row["ratio_to_baseline"]["device"] for row in done] == [1.0, 5.0, 1.0, 6.0]
    assert [row["share_of_matrix_rate"] for row in done] == [None, 0.1, None, None]  # only FP16's rate is known
    assert with_ratios(rows[1:2], {}, BASELINE)[0]["ratio_to_baseline"] == {"host": None, "device": None}
    # What was timed from host to host only is not set beside what PyTorch takes on the device.
    (_, engine) = with_ratios([rows[0], {**rows[1], "device": None}], {}, BASELINE)
    assert engine["ratio_to_baseline"] == {"host": 5.0, "device": None}


def test_forms_that_fail_are_left_out_and_said():
    def fails():
        raise RuntimeError("out of memory\nwith a long story")

    turns = []
    timings, failed = stopwatch.measure_forms(
        {"a": lambda: turns.append("a"), "b": fails, "c": lambda: turns.append("c")},
        lambda run: (run(), 0.2)[1],
        runs=2,
    )
    assert failed == {"b": "RuntimeError: out of memory"}
    assert [timing.name for timing in timings] == ["a", "c"]
    assert [timing.seconds for timing in timings] == [(0.2, 0.2)] * 2
    assert turns[-4:] == ["a", "c", "a", "c"]  # in turn, after each was warm


class PretendedCuda:
    """As much of `torch.cuda` as a stopwatch needs, with a clock that only launches and replays move.

    Outside a graph each launch also costs the host's time, as Python's do.
    """

    HOST = 10e-6

    def __init__(self):
        self.now, self.capturing = 0.0, None

    def launch(self, seconds):
        if self.capturing is not None:
            self.capturing.append(seconds)
        else:
            self.now += seconds + self.HOST

    def Stream(self):  # noqa: N802 - PyTorch's names
        return self

    current_stream = Stream

    def wait_stream(self, _):
        pass

    def synchronize(self):
        pass

    def stream(self, _):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def graph(self, graph):
        self.capturing = graph.launches
        yield
        self.capturing = None

    def CUDAGraph(self):  # noqa: N802
        graph = types.SimpleNamespace(launches=[])
        graph.replay = lambda: [self.launch(sum(graph.launches))]
        return graph

    def Event(self, enable_timing):  # noqa: N802
        event = types.SimpleNamespace(time=None, synchronize=lambda: None)
        event.record = lambda: setattr(event, "time", self.now)
        event.elapsed_time = lambda other: 1e3 * (other.time - event.time)
        assert enable_timing
        return event


def test_a_kernel_is_timed_without_the_hosts_part_and_with_a_cold_cache():
    cuda = PretendedCuda()
    order = []

    def flush():
        order.append("flush")
        cuda.launch(100e-6)

    def kernel():
        order.append("kernel")
        cuda.launch(12e-6 if order[-2] == "flush" else 3e-6)  # quicker from a warm cache

    watch = stopwatch.ReplayStopwatch(5, flush=flush, cuda=cuda)
    assert watch.seconds(kernel, runs=3) == pytest.approx([12e-6] * 3)


def test_a_host_stopwatch_takes_time():
    assert stopwatch.HostStopwatch()(lambda: np.ones(10).sum()) > 0


def test_the_forms_of_a_small_model():
    names = ("eager plain fp32", "eager SDPA bf16", "eager SDPA tf32", "CUDA graph fp16")
    result = torch_forms("tiny-v", torch.device("cpu"), batch_size=2, runs=1, names=names)
    assert result["left_out"] == {"eager SDPA tf32": "needs a GPU", "CUDA graph fp16": "needs a GPU"}
    plain, reduced = result["rows"]
    assert plain["form"] == BASELINE
    # The definitional form rounds otherwise than the exact rewrites; BF16 has 8 bits.
    assert 0 <= plain["parity"]["max_abs_error"] < 1e-4
    assert 1e-4 < reduced["parity"]["max_abs_error"] < 0.3
    for way in ("host", "device"):
        assert plain[way]["windows_per_second"] == pytest.approx(2e3 / plain[way]["median_ms"])
    assert plain["peak_memory_bytes"] is None


def test_every_form_is_a_name_and_a_known_precision():
    names = [form.name for form in gpu_forms.FORMS]
    assert len(set(names)) == len(names)
    assert {form.precision for form in gpu_forms.FORMS} == set(gpu_forms.DTYPES)
    assert gpu_forms.FORMS[0].name == BASELINE


def test_rates_and_the_tf32_switch():
    rates = measured_rates(torch.device("cpu"), size=64, runs=2)
    assert set(rates) == {"fp32_tflops", "copy_gb_per_second"}
    assert min(rates.values()) > 0
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with tf32(not before[0]):
        assert torch.backends.cuda.matmul.allow_tf32 is not before[0]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_settings_survive_json():
    settings = dataclasses.replace(SETTINGS, video="clip.mp4", batch_sizes=(1, 4), engines=None)
    assert Settings.from_dict(json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_the_parts_follow_the_settings():
    tests = ["tests, kernel", "tests, front-end", "tests, C library"]
    assert list(phases(SETTINGS)) == ["tools", "rates", *tests, "kernels", "front-end", "PyTorch, batch 1"]
    some = dataclasses.replace(SETTINGS, engines=("ONNX Runtime fp32", "TensorRT fp16", "TensorRT bf16"))
    assert list(phases(some))[8:] == [
        "engine ONNX Runtime fp32",
        "engine TensorRT fp16",
        "engine TensorRT bf16",
        "video onnxruntime",
        "video tensorrt",
    ]


def test_what_the_machine_lacks_is_skipped_and_what_fails_is_said(monkeypatch):
    assert run_phase("kernels", SETTINGS) == {
        "status": "skipped",
        "reason": "the deformable convolution's CUDA kernel needs a GPU",
    }
    for error, status in (
        (UnavailableError("none here"), "skipped"),
        (EngineError("broken"), "failed"),
        (ModuleNotFoundError("No module named 'av'", name="av"), "skipped"),
    ):

        def phase(_, error=error):
            raise error

        monkeypatch.setattr("dtfsal.benchmarks.gpu.phases.phases", lambda _, phase=phase: {"part": Part(phase)})
        reason = "needs the package av, which is not installed" if "av" in str(error) else str(error)
        assert run_phase("part", SETTINGS) == {"status": status, "reason": reason}


def test_a_part_that_dies_is_a_failure_with_its_last_words():
    outcome = in_a_process("no such part", SETTINGS, 600)
    assert outcome == {"status": "failed", "reason": "KeyError: 'no such part' (exit code 1)"}
    assert module._last_words(-6, "first\nterminate called\n\n") == "terminate called (killed by SIGABRT)"
    assert module._last_words(3, "") == "it said nothing (exit code 3)"


def test_a_clip_in_full_hd_keeps_its_times_and_sound(make_toy_clip, tmp_path):
    source = make_toy_clip("clip.mkv", count=8, sound_seconds=0.32)
    info, before = probe(full_hd_clip(source, tmp_path / "hd.mp4")), probe(source)
    assert (info.height, info.width) == (1080, 1920)
    assert info.has_audio
    assert info.frame_interval_seconds == pytest.approx(before.frame_interval_seconds, abs=1e-4)


def test_the_report_of_made_parts():
    live = {
        "model": "lite",
        "precision": "fp16",
        "backend": {"name": "tensorrt", "device": "cuda", "front_end": "GPU"},
        "rows": [{"maps_per_second": 400.0, "mean_ms": 2.5, "stages_ms": {"engine": 2.0}}],
    }
    kernel = {"shape": "1x8x4x4", "precision": "fp16", "kernel": "ours", "median_us": 9.0, "ratio_to_ours": 1.0}
    parts = {
        "rates": {
            "status": "done",
            "result": {
                "gpu": {"name": "Card", "driver": "600.1"},
                "rates": {"fp16_tflops": 80.0, "copy_gb_per_second": 900.0},
            },
        },
        "kernels": {
            "status": "done",
            "result": {"rows": [{**kernel, "max_error": 0.001}], "left_out": {"torchvision": "absent"}},
        },
        "front-end": {
            "status": "done",
            "result": {
                "size": [1080, 1920],
                "rows": [{"what": "frame, YUV", "difference": 1.0, "gpu_us": 300.0, "cpu_us": 4000.0}],
            },
        },
        "PyTorch, batch 1": {"status": "done", "result": {"rows": [made_row(BASELINE, 100.0)], "left_out": {"x": "y"}}},
        "engine TensorRT fp16": {"status": "failed", "reason": "it broke"},
        "video tensorrt": {"status": "done", "result": {"reports": [live]}},
    }
    engine = made_row("TensorRT fp16", 10.0, "fp16", tflops=40.0) | {"device": None}
    report = {
        "parts": parts,
        "rows": with_ratios([made_row(BASELINE, 100.0), engine], {"fp16_tflops": 80.0}, BASELINE),
        "machine": {"cpu": "CPU", "cores": 2, "system": "S", "python": "3", "versions": {"torch": "2"}, "date": "D"},
        "command": ["dtfsal", "benchmark", "gpu"],
    }  # fmt: skip
    text = markdown(report)
    assert "Card; driver 600.1; matrix products reach fp16 80 TFLOP/s, copies 900 GB/s" in text
    expected = "| TensorRT fp16 | 1 | 10 ms (10-10) | 10.00x | 100 | - | - | - | 50 % | 3 MiB | 0.500000 | 1.0 px |"
    assert expected in text
    assert "| 1x8x4x4 | fp16 | ours | 9 us | 1.00x | 0.001 |" in text
    assert "| prepared from 1920x1080 | GPU | CPU | difference |" in text
    assert "| frame, YUV | 300 us | 4e+03 us | 1 |" in text
    assert "| lite fp16, tensorrt on cuda, frames prepared on the GPU | 400 | 2.5 | 2 | 80 % |" in text
    assert "- engine TensorRT fp16: failed: it broke" in text
    assert "- PyTorch, batch 1: x: y" in text


def test_a_whole_check_on_a_cpu():
    seen = []
    report = gpu_check(SETTINGS, progress=lambda name, report: seen.append((name, len(report["parts"]))))
    assert seen == [(name, number + 1) for number, name in enumerate(phases(SETTINGS))]
    assert [part["status"] for part in report["parts"].values()] == ["done", "done", *5 * ["skipped"], "done"]
    (row,) = report["rows"]
    assert row["parity"]["max_abs_error"] == 0  # the very model
    assert row["share_of_matrix_rate"] > 0
    assert "eager SDPA fp32 | 1 |" in markdown(report)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runs", "0"], 2, "at least 1"),
        (["--batch-size", "0"], 2, "at least 1"),
        (["--form", "nonsense"], 2, "--form 'nonsense' is not known"),
        (["--engine", "nonsense"], 2, "--engine 'nonsense' is not known; choose from: ONNX Runtime fp32"),
        (["--video", "nowhere.mp4"], 2, "is not a file"),
        (["--preset", "huge"], 2, "huge"),
        (["--quick", "--engine", "TensorRT fp16"], 2, "--quick builds no engines"),
        (["--quick", "--seconds", "60"], 2, "say where with --output"),
    ],
)
def test_wrong_arguments_are_one_sentence(capsys, arguments, code, message):
    assert main(["benchmark", "gpu", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_sentence(capsys):
    assert main(["benchmark", "gpu"]) == 5
    assert "needs an NVIDIA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_the_graph_of_tensorrts_own_kernel_is_the_deformable_convolution(kind):
    """By ONNX Runtime against the definition; FP16 there is FP32 with rounded inputs."""
    import onnxruntime

    torch.manual_seed(0)
    x, offset, mask = torch.randn(2, 8, 6, 7), torch.randn(2, 18, 6, 7), torch.rand(2, 9, 6, 7)
    weight, bias = torch.randn(4, 8, 3, 3) / 8, torch.randn(4)
    tensors = [tensor.to(kind) for tensor in (x, offset, mask, weight, bias)]
    model = one_node_graph((2, 8, 6, 7), *tensors[3:])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {n: t.numpy() for n, t in zip(("x", "offset", "mask"), tensors, strict=False)})
    expected = deform_conv2d(*(tensor.double() for tensor in tensors), padding=1)
    torch.testing.assert_close(
        torch.from_numpy(found).double(), expected, rtol=0, atol=1e-5 if kind == torch.float32 else 2e-2
    )


QUICK = Settings(preset="dtfsal", device="cuda", batch_sizes=(1, 8), runs=10, quick=True)


def test_the_quick_check_has_a_budget_under_eight_minutes():
    parts = phases(QUICK)
    assert sum(part.seconds for part in parts.values()) < 8 * 60
    assert list(parts)[:4] == ["tools", "rates", "tests, kernel", "kernels"]
    assert {"PyTorch, batch 1", "PyTorch, batch 8", "torch.compile, batch 1", "tests, C library"} < set(parts)
    lines = budget(QUICK).splitlines()
    assert len(lines) == len(parts) + 1
    assert lines[-1] == f"  {sum(part.seconds for part in parts.values()):4d} s  at most, all together"


def test_the_check_goes_on_after_failures_and_over_several_calls(monkeypatch):
    ran = []

    def pretended(name, settings, seconds):
        ran.append((name, seconds))
        status, reason = ("failed", "broken") if name == "kernels" else ("skipped", "pretended")
        return {"status": status, "reason": reason}

    monkeypatch.setattr(module, "in_a_process", pretended)
    first = gpu_check(QUICK, progress=lambda *_: None, seconds=65)
    longer = ["tests, kernel", "torch.compile, batch 1"]
    assert first["to_do"] == longer
    assert ran == [(name, part.seconds) for name, part in phases(QUICK).items() if name not in longer]
    assert f"- {longer[0]}: not run yet" in markdown(first)
    assert "- kernels: failed: broken" in markdown(first)
    ran.clear()
    kept = json.loads(json.dumps(first))
    second = gpu_check(QUICK, progress=lambda *_: None, kept=kept)
    assert [name for name, _ in ran] == longer
    assert second["to_do"] == []
    assert set(second["parts"]) == set(phases(QUICK))
    ran.clear()
    gpu_check(dataclasses.replace(QUICK, runs=11), progress=lambda *_: None, kept=kept)
    assert len(ran) == len(phases(QUICK))  # figures of other settings do not count


def test_a_part_that_takes_too_long_is_ended_and_said():
    assert in_a_process("rates", SETTINGS, 0) == {"status": "failed", "reason": "it took longer than its 0 s"}


def test_an_unfinished_check_is_gone_on_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "in_a_process", lambda *_: {"status": "skipped", "reason": "pretended"})
    command = ["benchmark", "gpu", "--quick", "--device", "cpu", "--output", str(tmp_path / "gpu.json")]
    assert main([*command, "--seconds", "15"]) == 0
    said = capsys.readouterr().err
    assert "at most, all together" in said
    assert "dtfsal: tools: skipped in 0 s: pretended" in said
    assert "run the same command again for rates, tests, kernel" in said
    assert (tmp_path / "gpu.partial.json").is_file()
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"goes on from {tmp_path / 'gpu.partial.json'}" in said
    assert "tools: skipped" not in said
    assert not (tmp_path / "gpu.partial.json").exists()
    assert len(json.loads((tmp_path / "gpu.json").read_text())["parts"]) == len(phases(QUICK))


def test_our_own_tests_are_counted_and_their_skips_said(tmp_path):
    file = tmp_path / "test_made.py"
    with pytest.raises(UnavailableError, match="run the check from a checkout"):
        run_tests(file)
    file.write_text(
        "import os, pytest\n\n\ndef test_one():\n    assert os.environ['DTFSAL_REQUIRE_CUDA']\n\n\n"
        "@pytest.mark.skip(reason='no such card')\ndef test_two():\n    pass\n"
    )
    assert run_tests(file) == {"passed": 1, "left_out": {"test_two": "no such card"}}


def test_failed_tests_are_a_failure_and_skipped_ones_a_reason():
    case = '<testcase name="a"/><testcase name="b">{}</testcase>'
    failure = '<failure message="AssertionError: 3&#10;and more">text</failure>'
    with pytest.raises(EngineError, match=r"1 of 2 tests failed, the first b: AssertionError: 3$"):
        outcome_of_tests(f"<testsuites><testsuite>{case.format(failure)}</testsuite></testsuites>")
    with pytest.raises(UnavailableError, match="needs a GPU"):
        outcome_of_tests('<testsuite><testcase name="c"><skipped message="needs a GPU"/></testcase></testsuite>')


def test_a_made_clip_is_what_the_front_end_takes(tmp_path):
    info = probe(made_clip(tmp_path / "clip.mp4", frames=1))
    assert (info.height, info.width, info.has_audio) == (1080, 1920, False)
