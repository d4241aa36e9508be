"""Latency of the same model in several forms, interleaved in one run, with the machine it was measured on.

Every form has a process of its own (see `dtfsal.benchmarks.timing.form_worker`), so that its cold start is cold, its
memory is its own, and no form's threads take another's cores. Latency is from arrays in memory to maps in memory.

Interleaving does not make a busy machine fair. PyTorch's threads wait for each other at every operator, so a process
that takes one of their cores can slow a small model tens of times, while ONNX Runtime's own threads lose little: the
speed-up comes out too high. So the report holds what other processes used meanwhile.
"""

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.benchmarks.accuracy.parity import compare
from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.machine.energy import find_meters, joules_per_run
from dtfsal.benchmarks.machine.host import OtherCores, machine
from dtfsal.benchmarks.machine.rates import matrix_product_rate
from dtfsal.benchmarks.measure.intervals import (
    CONFIDENCE,
    difference_p_value,
    median_coverage,
    median_interval,
    ratio_interval,
)
from dtfsal.benchmarks.measure.stopwatch import quartiles
from dtfsal.benchmarks.timing.forms import PLAIN, AnyForm, BundleForm, Workload, seeded_weights
from dtfsal.benchmarks.timing.interleaved import Job, Opened, Progress, cold_start, open_jobs, take_turns
from dtfsal.engines import read_bundle
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.training.model.config import ModelConfig, resolve_config

PACKAGES = ("dtfsal", "torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "numpy")
SILENT = "the machine does not report it"


def latency(
    model: str | ModelConfig,
    forms: Sequence[AnyForm],
    *,
    runs: int,
    batch_size: int = 1,
    threads: int | None = None,
    baseline: str | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measure a model with random weights in those forms that can run here.

    Args:
        model: a preset or a configuration.
        forms: from `choose_forms`.
        runs: timed runs of each form.
        batch_size: windows at once.
        threads: of every form alike; None takes the machine's physical cores.
        baseline: the form that ratios are to; None for "eager plain", or else the first that runs.
        progress: told of steps, `len(forms) * (runs + 1)` in all.

    Returns:
        The report as JSON types.

    Raises:
        UsageError: the baseline is not one of the forms, or an engine that exists is for another workload.
        UnavailableError: no form can run here, or not the baseline.
    """
    config, threads = resolve_config(model), threads or default_threads()
    if baseline is not None and baseline not in [form.name for form in forms]:
        raise UsageError(f"the baseline {baseline!r} is not one of the forms: {', '.join(form.name for form in forms)}")
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        workload = Workload(
            config=config,
            weights=seeded_weights(config, folder),
            folder=folder,
            batch_size=batch_size,
            threads=threads,
        )
        jobs = [Job(form.name, form, workload) for form in forms]
        opened, left_out = open_jobs(stack, jobs, steps=runs, progress=progress)
        reference = _reference(opened, left_out, baseline)
        others = OtherCores([form.process.pid for form in opened])
        seconds = take_turns({form.job.name: form.process.run for form in opened}, rounds=runs, progress=progress)
        other_cores = others.mean()
        flops = {form: batch_size * count(config, form=form).total.true_flops for form in ("deployed", "written")}
        meters, why_not = find_meters()
        rows = [
            {
                "form": form.job.name,
                "device": form.job.form.device,
                "precision": form.job.form.precision,
                **statistics_of(seconds[form.job.name], seconds[reference.job.name]),
                "true_gflop_per_second": flops[form.job.form.flops] / statistics.median(seconds[form.job.name]) / 1e9,
                "agreement": _agreement(reference, form),
                "warm_up_seconds": form.warm_up_seconds,
                "cold": cold_start(form),
                "build_seconds": form.prepared.build_seconds,
                "size_bytes": form.prepared.size_bytes,
                "joules_per_run": _joules(form, meters) if meters else None,
                "seconds": seconds[form.job.name],
            }
            for form in opened
        ]
    return {
        "kind": "latency",
        "preset": config.name,
        "clip": {"frames": config.clip.frames, "height": config.clip.height, "width": config.clip.width},
        "sound": config.audio is not None,
        "batch_size": batch_size,
        "threads": threads,
        "runs": runs,
        "confidence": CONFIDENCE,
        "interval_coverage": median_coverage(runs),
        "baseline": reference.job.name,
        "true_gflop": {form: value / 1e9 for form, value in flops.items()},
        "matrix_product_gflop_per_second": matrix_product_rate(threads),
        "meters": [meter.name for meter in meters],
        "no_energy": f"{SILENT}: {'; '.join(why_not)}" if not meters else None,
        "other_cores": other_cores,
        "rows": rows,
        "left_out": left_out,
        "machine": machine(PACKAGES),
    }


def statistics_of(seconds: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """What a form's runs say, alone and beside those of a baseline that took turns with it, as JSON values.

    Returns:
        Medians, quartiles and intervals; `ratio_to_baseline` is how many times faster than the baseline the form is,
        and `p_value` how likely runs like these are if neither were faster. The baseline itself has neither interval
        nor p-value of a ratio.
    """
    same = seconds is baseline
    return {
        "median_seconds": statistics.median(seconds),
        "median_interval_seconds": median_interval(seconds),
        "quartiles_seconds": quartiles(seconds),
        "ratio_to_baseline": statistics.median(baseline) / statistics.median(seconds),
        "ratio_interval": None if same else ratio_interval(baseline, seconds, paired=True),
        "p_value": None if same else difference_p_value(baseline, seconds),
    }


def _reference(opened: Sequence[Opened], left_out: Mapping[str, str], baseline: str | None) -> Opened:
    if not opened:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UnavailableError(f"none of the forms can run here ({reasons})")
    if baseline is not None and baseline in left_out:
        raise UnavailableError(f"the baseline {baseline!r} cannot run here ({left_out[baseline]}): choose another")
    by_name = {form.job.name: form for form in opened}
    return by_name.get(baseline or PLAIN, opened[0])


def _agreement(reference: Opened, form: Opened) -> dict[str, Any] | None:
    """How the form's first map compares with the baseline's; None where the two have different weights."""
    if not (_has_our_weights(reference) and _has_our_weights(form)):
        return None
    maps = [np.load(opened.prepared.spec.maps)[0, 0] for opened in (reference, form)]
    if not np.isfinite(maps[1]).all():
        return {"finite": False}
    return {"finite": True, **dataclasses.asdict(compare(*maps))}


def _has_our_weights(opened: Opened) -> bool:
    """Whether a form runs the random weights of seed 0, as all do but engines that were made of others."""
    form = opened.job.form
    return not isinstance(form, BundleForm) or read_bundle(form.bundle).manifest.weights["source"] == "random, seed 0"


def _joules(form: Opened, meters: Sequence[Any]) -> dict[str, float]:
    return dict(zip((meter.name for meter in meters), joules_per_run(form.process.run, meters), strict=True))
