"""The training loss: KL divergence minus linear correlation (the paper's section 3.5, equations 17 to 19).

All functions take predicted and ground-truth maps of the same shape, (B, 1, H, W) or (B, H, W), floating, non-negative,
of any scale: a map is divided by its sum or its deviation here. Half precision is computed in float32. Values and
gradients are finite for every non-negative map of finite sum; looking for others would wait for the GPU.
"""

import torch
from torch import Tensor

from dtfsal.engines.errors import UsageError

# The paper's regularisation term: a thousandth of a uniform map's value at 224x384. It bounds the gradient of a pixel
# that is looked at and predicted 0, as half precision may predict it; with the metric's 2e-16 it could reach 1e12.
EPSILON = 1e-8
SMALLEST_SUM = 1e-20  # a map whose sum is smaller is taken as zero: dividing by it could overflow the gradient


def kl_divergence(saliency_map: Tensor, ground_truth: Tensor) -> Tensor:
    """KL divergence of the prediction from the ground truth, sum of g log(ε + g / (s + ε)) (equation 17), in nats.

    A prediction that is zero everywhere counts as uniform and has no gradient.

    Args:
        saliency_map: s, the prediction; (B, 1, H, W) or (B, H, W), non-negative.
        ground_truth: g, of the same shape.

    Returns:
        (B,); 0 where the ground truth is zero everywhere.

    Raises:
        UsageError: the shapes differ or are neither of the two.
    """
    prediction, target = _flat(saliency_map, ground_truth)
    uniform = torch.full_like(prediction, 1 / prediction.shape[1])
    s, g = _normalised(prediction, uniform), _normalised(target, torch.zeros_like(target))
    return (g * torch.log(EPSILON + g / (s + EPSILON))).sum(dim=1)


def correlation(saliency_map: Tensor, ground_truth: Tensor) -> Tensor:
    """Pearson's linear correlation coefficient CC over the pixels of each map (equation 18).

    Args:
        saliency_map: the prediction; (B, 1, H, W) or (B, H, W).
        ground_truth: of the same shape.

    Returns:
        (B,) in [-1, 1]; 0, and no gradient, where either map is constant.

    Raises:
        UsageError: the shapes differ or are neither of the two.
    """
    prediction, target = _flat(saliency_map, ground_truth)
    return (_standardised(prediction) * _standardised(target)).sum(dim=1)


def saliency_loss(
    saliency_map: Tensor, ground_truth: Tensor, *, kl_weight: float = 1.0, cc_weight: float = -1.0
) -> Tensor:
    """The training loss λ1 KL + λ2 CC (equation 19), the batch's mean; by default KL - CC.

    Args:
        saliency_map: the prediction; (B, 1, H, W) or (B, H, W), non-negative.
        ground_truth: of the same shape; one that is zero everywhere adds 0 to the batch's sum, and counts in its mean.
        kl_weight: λ1.
        cc_weight: λ2, negative because correlation is to grow.

    Returns:
        A scalar.

    Raises:
        UsageError: the shapes differ or are neither of the two.
    """
    kl, cc = kl_divergence(saliency_map, ground_truth), correlation(saliency_map, ground_truth)
    return (kl_weight * kl + cc_weight * cc).mean()


def _flat(saliency_map: Tensor, ground_truth: Tensor) -> tuple[Tensor, Tensor]:
    if saliency_map.shape != ground_truth.shape:
        raise UsageError(
            f"prediction and ground truth must have one shape, got {tuple(saliency_map.shape)} "
            f"and {tuple(ground_truth.shape)}"
        )
    if not (saliency_map.ndim == 3 or (saliency_map.ndim == 4 and saliency_map.shape[1] == 1)):
        raise UsageError(f"maps must be (B, 1, H, W) or (B, H, W), got {tuple(saliency_map.shape)}")
    dtype = torch.promote_types(torch.promote_types(saliency_map.dtype, ground_truth.dtype), torch.float32)
    return saliency_map.to(dtype).flatten(1), ground_truth.to(dtype).flatten(1)  # (B, H*W)


def _normalised(x: Tensor, otherwise: Tensor) -> Tensor:
    """Each row divided by its sum; `otherwise` where the sum is 0."""
    total = x.sum(dim=1, keepdim=True)
    usable = total > SMALLEST_SUM
    return torch.where(usable, x / torch.where(usable, total, 1.0), otherwise)


def _standardised(x: Tensor) -> Tensor:
    """Each row centred and of Euclidean length 1; zeros where it is constant.

    The centre's rounding leaves a constant row not quite zero, so constancy is asked of the values themselves. A row is
    first scaled to a peak of 1, so that squares neither vanish nor overflow; the result does not depend on scale, so
    the peak needs no gradient.
    """
    values = x.detach()
    varied = values.amax(dim=1, keepdim=True) > values.amin(dim=1, keepdim=True)
    x = x / torch.where(varied, values.abs().amax(dim=1, keepdim=True), 1.0)
    centred = x - x.mean(dim=1, keepdim=True)
    length = torch.where(varied, centred.square().sum(dim=1, keepdim=True), 1.0).sqrt()
    return torch.where(varied, centred / length, 0.0)
