"""Learning rates, the weights' average, and which parameters decay."""

import math

import pytest
import torch
from torch import nn

from dtfsal.training.recipe.optimisation import Optimiser, OptimiserConfig, cosine_rate, keep_freed_memory


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine():
    rates = [cosine_rate(step, 12, 2) for step in range(12)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.5)  # half way between the steps 2 and 12
    assert rates[11] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert cosine_rate(12, 12, 2) == pytest.approx(0)


def test_a_step_moves_only_what_it_was_given_and_the_average_follows():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    frozen = [p.clone() for p in model[0].parameters()]
    config = OptimiserConfig(learning_rate=0.1, warmup=0.0, average=0.5)
    optimiser = Optimiser(model, model[2].parameters(), [], config, 10)
    averaged = model[2].bias.detach().clone()
    for step in range(3):
        optimiser.step(model(torch.randn(8, 3)).square().mean())
        decay = min(0.5, (step + 1) / (step + 10))
        averaged = decay * averaged + (1 - decay) * model[2].bias.detach()
        torch.testing.assert_close(optimiser.averaged[2].bias, averaged)
    assert all(torch.equal(a, b) for a, b in zip(frozen, model[0].parameters(), strict=True))
    assert int(optimiser.averaged[1].num_batches_tracked) == 3
    assert not optimiser.averaged.training


def test_gradients_are_clipped_before_the_step():
    layer = nn.Linear(2, 1, bias=False)
    optimiser = Optimiser(layer, layer.parameters(), [], OptimiserConfig(clip_norm=1.0), 2)
    optimiser.step(1e6 * layer(torch.ones(1, 2)).sum())
    assert layer.weight.grad.norm() == pytest.approx(1.0, abs=1e-5)  # the clip divides by norm + 1e-6


def test_keeping_freed_memory_does_not_fail_anywhere():
    keep_freed_memory()
    assert torch.zeros(1000).sum() == 0
