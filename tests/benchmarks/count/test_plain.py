"""The exact rewrites against the definitional forms: the same function and the same gradients, in float64."""

import pytest
import torch

from dtfsal.benchmarks.count.plain import plain
from dtfsal.training import PRESETS
from dtfsal.training.model.seeded import seeded_model, synthetic_window

# Two orders of the same float64 sums through the whole network.
EXACT = 1e-10


def window(config):
    torch.manual_seed(1)
    return [None if value is None else value.double() for value in synthetic_window(config)]


@pytest.mark.parametrize("preset", ["tiny", "tiny-v"])
@pytest.mark.parametrize("size", [{}, {"frames": 24, "height": 64, "width": 96}])
def test_rewritten_equals_plain(preset, size):
    config = PRESETS[preset].resized(**size)
    model = seeded_model(config).double()
    with torch.no_grad():
        torch.testing.assert_close(model(*window(config)), plain(model)(*window(config)), rtol=0, atol=EXACT)


def test_also_at_another_size_than_the_nominal_one():
    model = seeded_model("tiny").double()
    inputs = window(model.config.resized(frames=4, height=64, width=64))
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs), plain(model)(*inputs), rtol=0, atol=EXACT)


def test_gradients_are_the_same():
    config = PRESETS["tiny"].resized(frames=4, height=32, width=64)
    model = seeded_model(config).double()
    other = plain(model)
    for form in (model, other):
        form(*window(config)).square().sum().backward()
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        # A parameter's gradient sums over all positions: its size sets the rounding.
        scale = max(1.0, parameter.grad.abs().max().item())
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=0, atol=1e-9 * scale, msg=name)


def test_the_plain_form_is_a_copy():
    model = seeded_model("tiny")
    other = plain(model)
    assert model.encoder.blocks[0].attn.attend is not other.encoder.blocks[0].attn.attend
    with torch.no_grad():
        other.final.bias.add_(1)
    assert not torch.equal(model.final.bias, other.final.bias)
