"""The model that Triton's Python runs: sequences that take turns get the predictor's maps."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from dtfsal.applications.model_repository import stream_model
from dtfsal.applications.model_repository.repository import write_repository
from dtfsal.applications.model_repository.stream_model import Sequences, TritonPythonModel
from dtfsal.engines import open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.runtime import SaliencyPredictor

RATE = 16000


@pytest.fixture
def engine(toy_engine):
    with open_engine(toy_engine, threads=1) as engine:
        yield engine


def clip(count, seed):
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, 256, (count, 30, 50, 3), np.uint8)
    samples = generator.uniform(-0.5, 0.5, round(RATE * count / 25)).astype(np.float32)
    return frames, np.arange(count) / 25, samples


def pieces(frames, times, samples, size):
    """A request for every `size` frames, with the sound of their time if there is any."""
    for first in range(0, len(frames), size):
        piece = slice(first, first + size)
        arrays = {"frames": frames[piece], "times_seconds": times[piece], "frame_rate_hz": np.array([25.0])}
        if samples is not None:
            start = round(first / 25 * RATE)
            arrays["samples"] = samples[start : round(start + size / 25 * RATE)]
            arrays["samples_seconds"] = times[first : first + 1]
            arrays["sample_rate_hz"] = np.array([RATE], np.int32)
        yield arrays, first == 0, first + size >= len(frames)


def test_sequences_that_take_turns_get_the_predictors_maps(engine):
    loud, quiet = clip(23, 1), (*clip(23, 2)[:2], None)
    sequences = Sequences(engine)
    answers = {7: [], 2**63 + 1: []}
    for one, other in zip(pieces(*loud, 4), pieces(*quiet, 4), strict=True):
        for number, (arrays, start, end) in zip(answers, (one, other), strict=True):
            answers[number].append(sequences.feed(number, arrays, start=start, end=end))
    assert len(sequences) == 0
    with SaliencyPredictor(engine) as predictor:
        for (frames, _, samples), parts in zip((loud, quiet), answers.values(), strict=True):
            heard = {} if samples is None else {"samples": samples, "sample_rate_hz": RATE}
            expected = list(predictor.predict_frames(frames, frame_rate_hz=25, **heard))
            maps = np.concatenate([part["saliency_maps"] for part in parts])
            assert np.array_equal(maps, np.stack([frame.saliency_map for frame in expected]))
            assert np.concatenate([part["map_indices"] for part in parts]).tolist() == list(range(23))
            times = np.concatenate([part["map_times_seconds"] for part in parts])
            assert times == pytest.approx([frame.time_seconds for frame in expected])
    assert any(len(part["map_indices"]) > 0 for part in answers[7][:-1])  # they came on the way, not all at the end


def test_what_does_not_fit_is_refused_and_forgotten(engine):
    frames, times, samples = clip(3, 0)
    fine = {"frames": frames, "times_seconds": times}
    wrong = (
        (fine | {"times_seconds": times[:2]}, "N times"),
        (fine | {"frames": frames[0]}, "N, H, W, 3"),
        (fine | {"times_seconds": times[::-1]}, "does not come after"),
        (fine | {"times_seconds": np.full(3, np.nan)}, "finite"),
        (fine | {"samples": samples}, "samples come with"),
        (fine | {"frame_rate_hz": np.array([1.0, 2.0])}, "one number"),
        (fine | {"frame_rate_hz": np.array([-1.0])}, "frame_rate_hz"),
    )
    sequences = Sequences(engine)
    for arrays, says in wrong:
        with pytest.raises(UsageError, match=says):
            sequences.feed(1, arrays, start=True, end=False)
        assert len(sequences) == 0
    with pytest.raises(UsageError, match="no sequence"):
        sequences.feed(1, fine, start=False, end=False)


def test_only_so_many_are_held_and_silent_ones_are_forgotten(engine, monkeypatch):
    frames, times, _ = clip(2, 0)
    fine = {"frames": frames, "times_seconds": times}
    sequences = Sequences(engine, most=2)
    sequences.feed(1, fine, start=True, end=False)
    sequences.feed(2, fine, start=True, end=False)
    with pytest.raises(UsageError, match="held already"):
        sequences.feed(3, fine, start=True, end=False)
    sequences.feed(2, fine, start=True, end=False)  # begins anew
    later = time.monotonic() + 2 * stream_model.IDLE_SECONDS + 1
    monkeypatch.setattr(stream_model.time, "monotonic", lambda: later)
    sequences.feed(3, fine, start=True, end=False)
    assert len(sequences) == 1


class Tensor:
    """What Triton's Python hands over, as far as the model uses it."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


def test_tritons_calls_are_answered(toy_engine, tmp_path, monkeypatch):
    written = write_repository(toy_engine, tmp_path / "models", name="toy")
    utilities = types.ModuleType("triton_python_backend_utils")
    utilities.Tensor = Tensor
    utilities.TritonError = str
    utilities.InferenceResponse = lambda outputs=(), error=None: (outputs, error)
    utilities.get_input_tensor_by_name = lambda request, name: request.get(name)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    model = TritonPythonModel()
    configuration = json.dumps({"instance_group": [{"count": 2}]})
    model.initialize(
        {"model_config": configuration, "model_repository": str(written.path / "toy"), "model_version": "1"}
    )
    frames, times, _ = clip(5, 0)
    arrays = {"frames": frames, "times_seconds": times, "START": np.array([1]), "END": np.array([1])}
    request = {name: Tensor(name, array) for name, array in (arrays | {"CORRID": np.array([9], np.uint64)}).items()}
    (outputs, error), (_, refused) = model.execute([request, request | {"START": Tensor("START", np.array([0]))}])
    assert error is None
    assert {tensor.name: tensor.array.shape for tensor in outputs} == {
        "saliency_maps": (5, 24, 40),
        "map_times_seconds": (5,),
        "map_indices": (5,),
    }
    assert "no sequence 9" in refused
    model.finalize()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_real_triton_answers_a_real_client(tmp_path, protocol):
    """Needs an environment with nvidia-pytriton, tritonclient and dtfsal: DTFSAL_TRITON names its folder."""
    environment = Path(os.environ.get("DTFSAL_TRITON", "none"))
    packages = next(environment.glob("lib/python3*/site-packages"), None)
    if packages is None:
        pytest.skip("DTFSAL_TRITON names no environment with nvidia-pytriton")
    server = packages / "pytriton" / "tritonserver"
    shutil.copytree(server / "backends", tmp_path / "backends")
    version = packages.parent.name.removeprefix("python")
    stub = "triton_python_backend_stub"
    shutil.copy(server / "python_backend_stubs" / version / stub, tmp_path / "backends" / "python" / stub)
    models = write_repository("lite", tmp_path / "models").path
    frames, times, samples = clip(42, 0)
    given, taken = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(given, frames=frames, times_seconds=times, samples=samples, sample_rate_hz=RATE, model="lite")
    ports = {name: free_port() for name in ("http", "grpc")}
    command = [server / "bin" / "tritonserver", "--model-repository", models, "--model-control-mode", "explicit"]
    command += ["--load-model", "lite", "--backend-directory", tmp_path / "backends", "--allow-metrics", "false"]
    for name, port in ports.items():
        command += [f"--{name}-port", str(port), f"--{name}-address", "127.0.0.1"]
    variables = {
        "LD_LIBRARY_PATH": f"{packages}/nvidia_pytriton.libs",
        "PYTHONPATH": f"{packages}:{Path(__file__).parents[3] / '.editable'}",
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
    }
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(f"http://127.0.0.1:{ports['http']}/v2/health/ready", process)
            program = Path(__file__).with_name("triton_client.py")
            client = [environment / "bin" / "python", program, protocol, f"127.0.0.1:{ports[protocol]}", given, taken]
            told = json.loads(subprocess.run(client, check=True, capture_output=True, text=True).stdout)
        finally:
            process.terminate()
    assert [says in error for says, error in zip(("START", "N times", "after"), told["refused"], strict=True)] == 3 * [
        True
    ]
    answered = np.load(taken)
    with SaliencyPredictor("lite", threads=1) as predictor:
        for number, sound in ((1, {"samples": samples, "sample_rate_hz": RATE}), (2, {})):
            expected = np.stack([f.saliency_map for f in predictor.predict_frames(frames, frame_rate_hz=25, **sound)])
            # Triton's Python may have another NumPy, whose log-mel differs in the last bits.
            assert np.abs(answered[f"saliency_maps_{number}"] - expected).max() < 1e-5
            assert answered[f"map_indices_{number}"].tolist() == list(range(42))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(url, process):
    for _ in range(600):
        assert process.poll() is None, "Triton has ended"
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("Triton is not ready after a minute")
