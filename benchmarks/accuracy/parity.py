"""Does an engine compute what the PyTorch model computes? Errors, and the field's own measures between two maps."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dtfsal.benchmarks.measure.engine_runs import Inputs, Run, run_graphs
from dtfsal.engines import Engine, Manifest
from dtfsal.engines.bundle.manifest import sha256_file
from dtfsal.engines.errors import EngineMismatchError, UsageError
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import load_weights, shipped_weights

EPSILON = 1e-7  # keeps logarithms and quotients of empty maps finite
SEEDED_SOURCE = re.compile(r"random, seed (\d+)")


@dataclasses.dataclass(frozen=True)
class Parity:
    """Two maps of the same window compared.

    Attributes:
        max_abs_error: largest difference of a pixel; maps are in [0, 1].
        mean_abs_error: mean difference.
        cc: Pearson's correlation coefficient; 1 for two constant maps.
        kl: Kullback-Leibler divergence in nats of the second map from the first, each summing to 1.
        sim: similarity, the sum of the smaller values of the two, each summing to 1.
        peak_shift_pixels: distance between the brightest pixels.
    """

    max_abs_error: float
    mean_abs_error: float
    cc: float
    kl: float
    sim: float
    peak_shift_pixels: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bars:
    """What parity asks for; None asks nothing."""

    max_abs_error: float | None = None
    cc: float | None = None
    peak_shift_pixels: float | None = None

    def misses(self, parity: Parity) -> list[str]:
        """What of a comparison falls short, in words; empty if nothing does."""
        found = []
        if self.max_abs_error is not None and not parity.max_abs_error <= self.max_abs_error:
            found.append(f"max abs error {parity.max_abs_error:.3g} > {self.max_abs_error:g}")
        if self.cc is not None and not parity.cc >= self.cc:
            found.append(f"CC {parity.cc:.6f} < {self.cc:g}")
        if self.peak_shift_pixels is not None and not parity.peak_shift_pixels <= self.peak_shift_pixels:
            found.append(f"peak shift {parity.peak_shift_pixels:.2f} px > {self.peak_shift_pixels:g} px")
        return found


# FP32: rounding of some 100 layers. FP16: 11 bits of mantissa; what matters is that the map looks at the same place.
# TF32 has as many as FP16, in the factors of products alone. BF16: 8 bits, eight times the rounding of FP16.
BARS = {
    "fp32": Bars(max_abs_error=1e-4),
    "tf32": Bars(cc=0.999, peak_shift_pixels=1.0),
    "fp16": Bars(cc=0.999, peak_shift_pixels=1.0),
    "bf16": Bars(cc=0.995, peak_shift_pixels=2.0),
    "int8": Bars(cc=0.995),
}


def compare(reference: npt.ArrayLike, other: npt.ArrayLike) -> Parity:
    """Compare two maps.

    Args:
        reference: (H, W) in [0, 1].
        other: the same shape.

    Raises:
        UsageError: the shapes differ, or a value is not finite.
    """
    a, b = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape or a.ndim != 2 or not a.size:
        raise UsageError(f"maps must be two equal (H, W) arrays, not {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UsageError("a map holds values that are not finite")
    difference = np.abs(a - b)
    p, q = a / max(a.sum(), EPSILON), b / max(b.sum(), EPSILON)
    peaks = [np.array(np.unravel_index(m.argmax(), m.shape)) for m in (a, b)]
    return Parity(
        max_abs_error=float(difference.max()),
        mean_abs_error=float(difference.mean()),
        cc=_correlation(a, b),
        kl=float(np.sum(p * np.log((p + EPSILON) / (q + EPSILON)))),
        sim=float(np.minimum(p, q).sum()),
        peak_shift_pixels=float(np.hypot(*(peaks[0] - peaks[1]))),
    )


def worst(results: list[Parity]) -> Parity:
    """The worst of each measure over several windows."""
    lowest, fields = {"cc", "sim"}, [field.name for field in dataclasses.fields(Parity)]
    return Parity(**{name: (min if name in lowest else max)(getattr(r, name) for r in results) for name in fields})


def compare_maps(model: DTFSal, run: Run, windows: Iterator[Inputs], *, batch_size: int = 1) -> Iterator[Parity]:
    """Run a model and something else on the same windows and compare their maps, window by window.

    Args:
        model: the reference.
        run: inputs by name to maps (B, 1, H, W).
        windows: inputs of batch size 1, `video` and, for an audio-visual model, `audio`.
        batch_size: B that `run` takes. It gets copies of the window, and the worst of their maps counts.
    """
    for inputs in windows:
        with torch.no_grad():
            tensors = [torch.from_numpy(inputs[name]) for name in ("video", "audio") if name in inputs]
            reference = model(*tensors)[0, 0].numpy()
        maps = run({name: np.repeat(value, batch_size, axis=0) for name, value in inputs.items()})
        yield worst([compare(reference, saliency_map[0]) for saliency_map in maps])


def compare_engine(model: DTFSal, engine: Engine, windows: Iterator[Inputs]) -> Iterator[Parity]:
    """`compare_maps` with an engine, whatever its batch size; several graphs are run one after the other."""
    if set(engine.manifest.graphs) != {"window"}:
        return compare_maps(model, lambda x: run_graphs(engine, x), windows)
    window = engine.manifest.graphs["window"]
    (video,) = (spec for spec in window.inputs if spec.name == "video")
    return compare_maps(model, lambda x: engine.run(x)["saliency_map"], windows, batch_size=video.shape[0])


def model_of(manifest: Manifest, *, weights: Path | None = None) -> DTFSal:
    """The PyTorch model that an engine was built from.

    Args:
        manifest: the engine's.
        weights: the weights file; not needed where the engine has random weights of a seed, or those that the package
            carries.

    Raises:
        UsageError: the engine was built from a file, and none was given.
        EngineMismatchError: the file is not the one that the engine was built from.
        WeightsError: the file cannot be read.
    """
    config = ModelConfig.from_dict(manifest.model_config)
    record = manifest.weights
    if seeded := SEEDED_SOURCE.fullmatch(record["source"]):
        if weights is not None:
            raise EngineMismatchError(f"the engine has random weights of seed {seeded[1]}, not those of {weights}")
        return seeded_model(config, seed=int(seeded[1]))
    if weights is None:
        weights = shipped_weights(manifest.model_name)
        if weights is None or sha256_file(weights) != record["sha256"]:
            raise UsageError(f"the engine was built from {record['source']}: give that file with --weights")
    clip = config.clip
    model = load_weights(weights, frames=clip.frames, height=clip.height, width=clip.width)
    if sha256_file(weights) != record["sha256"]:
        raise EngineMismatchError(f"{weights} is not the file {record['source']!r} that the engine was built from")
    return model


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if scale < EPSILON:
        return float(np.allclose(a, 0) and np.allclose(b, 0))
    return float((a * b).sum() / scale)
