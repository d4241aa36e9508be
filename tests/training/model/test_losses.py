"""The loss against the NumPy metrics, finite differences, and maps that a division could break."""

import itertools
import math

import numpy as np
import pytest
import torch

from dtfsal.engines.errors import UsageError
from dtfsal.training.evaluation import metrics
from dtfsal.training.model import losses
from dtfsal.training.model.losses import correlation, kl_divergence, saliency_loss

# Sums of some hundred float64 values in another order.
ORDER_OF_SUMS = 1e-12
# Float32 has a relative step of 6e-8; these are sums of some hundred terms of either sign, of size 1 together.
FLOAT32 = 1e-5

SHAPE = (4, 1, 7, 11)
FINITE_MAPS = {
    "zero": torch.zeros(SHAPE),
    "constant": torch.full(SHAPE, 0.1),  # its mean over 77 pixels is not quite 0.1
    "one pixel": torch.zeros(SHAPE).index_fill(3, torch.tensor([2]), 1.0) * torch.eye(7)[2][:, None],
    "almost zero": torch.full(SHAPE, 1e-30).index_fill(3, torch.tensor([2]), 2e-30),
    "small": torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 1e-12,
    "almost constant": torch.full(SHAPE, 0.5).index_fill(3, torch.tensor([2]), 0.5 + 2**-24),
    "large": torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) * 1e30,
    "random": torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)),
}


def random_maps(seed=0, shape=SHAPE, dtype=torch.float64):
    """Prediction and ground truth, from 0.05 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(0.05 + 0.95 * torch.rand(shape, generator=generator, dtype=dtype) for _ in range(2))


# Against the metrics.


@pytest.mark.parametrize("seed", range(3))
def test_kl_is_the_metric_with_its_epsilon(seed, monkeypatch):
    monkeypatch.setattr(losses, "EPSILON", metrics.EPSILON)
    prediction, target = random_maps(seed)
    target[1, 0, :3] = 0
    prediction[2, 0, :3] = 0
    expected = [metrics.kl_div(p, g) for p, g in zip(prediction[:, 0].numpy(), target[:, 0].numpy(), strict=True)]
    np.testing.assert_allclose(kl_divergence(prediction, target), expected, rtol=ORDER_OF_SUMS)


def test_kl_with_the_loss_epsilon_is_close_to_the_metric():
    prediction, target = random_maps()
    expected = [metrics.kl_div(p, g) for p, g in zip(prediction[:, 0].numpy(), target[:, 0].numpy(), strict=True)]
    # ε = 1e-8 beside the smallest probability, 0.05 / 77 = 6e-4, changes a logarithm by less than 2e-5.
    np.testing.assert_allclose(kl_divergence(prediction, target), expected, atol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_correlation_is_the_metric(seed):
    prediction, target = random_maps(seed)
    expected = [metrics.cc(p, g) for p, g in zip(prediction[:, 0].numpy(), target[:, 0].numpy(), strict=True)]
    np.testing.assert_allclose(correlation(prediction, target), expected, rtol=0, atol=ORDER_OF_SUMS)


def test_loss_by_hand():
    """The 3x3 example of docs/reference/metrics.md."""
    prediction = torch.tensor([[[1, 0, 0], [0, 4, 1], [0, 2, 1]]], dtype=torch.float64)
    target = torch.tensor([[[0, 0, 0], [0, 2, 1], [0, 0, 0]]], dtype=torch.float64)
    expected = 2 / 3 * math.log(3 / 2) + 1 / 3 * math.log(3) - 3 / math.sqrt(14)
    # ε = 1e-8 beside the probabilities 4/9 and 1/9 changes the logarithms by less than 1e-7.
    assert saliency_loss(prediction, target).item() == pytest.approx(expected, abs=1e-7)


def test_loss_is_the_weighted_batch_mean():
    prediction, target = random_maps()
    kl, cc = kl_divergence(prediction, target), correlation(prediction, target)
    torch.testing.assert_close(saliency_loss(prediction, target), (kl - cc).mean())
    torch.testing.assert_close(
        saliency_loss(prediction, target, kl_weight=0.3, cc_weight=-2.0), (0.3 * kl - 2 * cc).mean()
    )


def test_samples_do_not_mix():
    prediction, target = random_maps()
    for function in (kl_divergence, correlation):
        together = function(prediction, target)
        assert together.shape == (4,)
        alone = torch.cat([function(p[None], g[None]) for p, g in zip(prediction, target, strict=True)])
        torch.testing.assert_close(together, alone, rtol=ORDER_OF_SUMS, atol=ORDER_OF_SUMS)


def test_maps_with_and_without_channel_agree():
    prediction, target = random_maps()
    assert saliency_loss(prediction, target) == saliency_loss(prediction[:, 0], target[:, 0])


def test_scale_does_not_matter():
    prediction, target = random_maps()
    torch.testing.assert_close(saliency_loss(3 * prediction, 255 * target), saliency_loss(prediction, target))


def test_a_perfect_prediction_has_loss_minus_one_and_no_gradient():
    _, target = random_maps()
    prediction = target.clone().requires_grad_()
    loss = saliency_loss(prediction, target)
    loss.backward()
    # ε = 1e-8 is added to 77 probabilities of about 1/77, and again beside their ratios, which are 1.
    assert loss.item() == pytest.approx(-1, abs=1e-6)
    assert prediction.grad.abs().max() < 1e-6


def test_gradient_descent_finds_the_ground_truth():
    _, target = random_maps()
    logits = torch.zeros(SHAPE, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        saliency_loss(torch.sigmoid(logits), target).backward()
        optimizer.step()
    assert correlation(torch.sigmoid(logits), target).min() > 0.999


# Gradients.


@pytest.mark.parametrize("function", [kl_divergence, correlation, saliency_loss])
def test_gradients_are_finite_differences(function):
    prediction, target = random_maps(shape=(2, 1, 3, 4))
    target[1, 0, 0] = 0
    assert torch.autograd.gradcheck(function, (prediction.requires_grad_(), target))


def test_gradients_of_both_maps_are_finite_differences():
    prediction, target = random_maps(shape=(2, 3, 4))
    assert torch.autograd.gradcheck(saliency_loss, (prediction.requires_grad_(), target.requires_grad_()))


@pytest.mark.parametrize(("predicted", "true"), list(itertools.product(FINITE_MAPS, repeat=2)))
def test_degenerate_maps_have_finite_loss_and_gradient(predicted, true):
    prediction = FINITE_MAPS[predicted].clone().requires_grad_()
    loss = saliency_loss(prediction, FINITE_MAPS[true])
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("predicted", FINITE_MAPS)
def test_zero_ground_truth_contributes_nothing(predicted):
    prediction = FINITE_MAPS[predicted].clone().requires_grad_()
    loss = saliency_loss(prediction, torch.zeros(SHAPE))
    loss.backward()
    assert loss == 0
    assert (prediction.grad == 0).all()


def test_zero_ground_truth_counts_in_the_mean():
    prediction, target = random_maps()
    target[1:] = 0
    torch.testing.assert_close(saliency_loss(prediction, target), saliency_loss(prediction[:1], target[:1]) / 4)


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 0.7, 1.0])
def test_correlation_of_a_constant_map_is_zero(level):
    constant = torch.full(SHAPE, level)
    target = FINITE_MAPS["random"]
    assert (correlation(constant, target) == 0).all()
    assert (correlation(target, constant) == 0).all()


def test_zero_prediction_counts_as_uniform():
    target = FINITE_MAPS["random"]
    torch.testing.assert_close(
        kl_divergence(torch.zeros(SHAPE), target), kl_divergence(torch.ones(SHAPE), target), rtol=FLOAT32, atol=FLOAT32
    )


# Types and shapes.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    prediction, target = random_maps(shape=(2, 1, 224, 384), dtype=torch.float32)
    prediction = prediction.to(dtype)  # its sum, 45000, has steps of 32 in float16
    loss = saliency_loss(prediction, target)
    assert loss.dtype == torch.float32
    assert loss == saliency_loss(prediction.float(), target)


def test_float32_at_full_size_is_close_to_float64():
    prediction, target = random_maps(shape=(1, 1, 224, 384))
    in_float32 = saliency_loss(prediction.float(), target.float())
    torch.testing.assert_close(in_float32.double(), saliency_loss(prediction, target), rtol=0, atol=FLOAT32)


@pytest.mark.parametrize(
    ("predicted", "true"),
    [((2, 1, 3, 4), (2, 3, 4)), ((2, 3, 4), (1, 3, 4)), ((2, 3, 3, 4), (2, 3, 3, 4)), ((3, 4), (3, 4))],
)
@pytest.mark.parametrize("function", [kl_divergence, correlation, saliency_loss])
def test_wrong_shapes_are_usage_errors(function, predicted, true):
    with pytest.raises(UsageError, match=r"\(.*\)"):
        function(torch.ones(predicted), torch.ones(true))
