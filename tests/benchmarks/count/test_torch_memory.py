"""Memory of eager runs: by hand, against PyTorch's profiler, and the meta device against the CPU."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from dtfsal.benchmarks.count.plain import plain
from dtfsal.benchmarks.count.torch_memory import REST, torch_memory
from dtfsal.training import build_model
from dtfsal.training.model.seeded import seeded_model, synthetic_window

DEVICES = ("cpu", "meta")


class Chain(nn.Module):
    def forward(self, x):
        a = torch.relu(x)  # x, a: 40 + 40 values
        b = torch.cat((a, a))  # x, a, b: 160
        del a
        c = torch.exp(b)  # x, b, c: 200
        del b
        return c.mean()  # x, c, y: 121


class Shared(nn.Module):
    def forward(self, x):
        a = x * 2  # 80
        b = a.t().unflatten(0, (2, 2))[1:]  # a view
        b.relu_()  # in place
        return b.expand(3, -1, -1, -1)


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True))
        self.second = nn.Linear(6, 2, bias=False)

    def forward(self, x):
        return self.second(self.first(x)) + 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_chain_by_hand(device):
    memory = torch_memory(Chain(), (torch.ones(10, 4, device=device),))
    assert memory.activation_peak_bytes == 4 * 200
    assert (memory.peak_operator, memory.peak_place) == ("exp", "")
    assert memory.moved_bytes == {REST: 4 * ((40 + 40) + (40 + 40 + 80) + (80 + 80) + (80 + 1))}
    assert memory.weight_bytes == 0


@pytest.mark.parametrize("device", DEVICES)
def test_views_and_operators_in_place_take_no_memory(device):
    memory = torch_memory(Shared(), (torch.ones(10, 4, device=device),))
    assert memory.activation_peak_bytes == 4 * 80
    # The product reads and writes 40 values, and the activation in place the 20 of its view.
    assert memory.moved_bytes == {REST: 4 * (40 + 40 + 20 + 20)}


@pytest.mark.parametrize("device", DEVICES)
def test_parts_and_weights_by_hand(device):
    memory = torch_memory(TwoParts().to(device), (torch.ones(10, 4, device=device),))
    assert memory.weight_bytes == 4 * (24 + 6 + 12)
    assert memory.moved_bytes == {
        "first": 4 * ((6 + 40 + 24 + 60) + (60 + 60)),
        "second": 4 * (60 + 12 + 20),
        REST: 4 * (20 + 20),
    }
    assert memory.total_moved_bytes == sum(memory.moved_bytes.values())
    assert memory.activation_peak_bytes == 4 * (40 + 60 + 20)
    assert memory.peak_place == "second"


def test_the_inputs_may_be_the_peak():
    memory = torch_memory(nn.Flatten(), (torch.ones(10, 4),))
    assert (memory.activation_peak_bytes, memory.peak_operator) == (160, "")


@pytest.fixture(scope="module")
def tiny():
    """The tiny preset and a window for it."""
    model = seeded_model("tiny").eval()
    return model, tuple(synthetic_window(model.config))


def test_pytorchs_profiler_agrees(tiny):
    """The CPU's allocator tells the profiler of every block: the greatest sum of those, and the inputs, is the peak."""
    model, inputs = tiny
    ours = torch_memory(model, inputs)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model(*inputs)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    given = sum(tensor.untyped_storage().nbytes() for tensor in inputs)
    # Operators' own work space, which is not seen here, may come on top of it.
    assert ours.activation_peak_bytes <= most + given <= 1.05 * ours.activation_peak_bytes


def test_the_meta_device_says_what_the_cpu_does(tiny):
    """All but the statistics that a batch norm leaves empty on the CPU: 2 values for each channel."""
    model, inputs = tiny
    on_cpu = torch_memory(model, inputs)
    meta = build_model(model.config).eval().to("meta")
    on_meta = torch_memory(meta, tuple(tensor.to("meta") for tensor in inputs))
    assert on_meta.activation_peak_bytes == on_cpu.activation_peak_bytes
    assert on_meta.peak_place == on_cpu.peak_place
    assert on_meta.weight_bytes == on_cpu.weight_bytes
    assert on_meta.moved_bytes == pytest.approx(on_cpu.moved_bytes, rel=5e-4)


def test_the_definitional_form_holds_its_scores(tiny):
    """Block 1 has 2 heads, 1,921 queries and 481 keys; the scores and their softmax live at once."""
    model = build_model(tiny[0].config).eval().to("meta")
    inputs = tuple(tensor.to("meta") for tensor in tiny[1])
    scores = 4 * 2 * 1921 * 481
    fused, written = torch_memory(model, inputs), torch_memory(plain(model), inputs)
    assert written.activation_peak_bytes > fused.activation_peak_bytes + scores
    assert written.peak_place == "encoder.blocks.1.attn"
    assert written.moved_bytes["encoder"] > fused.moved_bytes["encoder"] + 4 * scores
