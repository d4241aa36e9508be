"""The scores of a model on a split's videos, window by window, as the runtime cuts them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.training.data.training_clips import evaluation_windows, fixation_map, resized_density
from dtfsal.training.data.video_item import VideoItem
from dtfsal.training.evaluation.metrics import nss, sim
from dtfsal.training.model.losses import correlation, kl_divergence

NAMES = ("loss", "cc", "kl", "sim", "nss")


@torch.no_grad()
def validation_sums(
    predict: Callable[..., Tensor],
    items: Sequence[VideoItem],
    clip: ClipSpec,
    audio: AudioSpec | None,
    *,
    every: int,
    kl_weight: float,
    cc_weight: float,
    device: torch.device,
    progress: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sums over the videos of their means, (6,) float64: loss, CC, KL, SIM, NSS at the model's size, and how many.

    Args:
        predict: the model, in evaluation mode: (video, audio or nothing) to maps.
        items: the videos.
        clip: the model's clip.
        audio: its sound, or None.
        every: every so many frames of a video are scored, and the last; those without a map are not.
        kl_weight: of the loss.
        cc_weight: likewise.
        device: where the model is.
        progress: called after each video.
    """
    sums = torch.zeros(len(NAMES) + 1, dtype=torch.float64)
    for item in items:
        rows = []
        for index, inputs in evaluation_windows(item, clip, audio, stride=every):
            density = item.density(index)
            if density is None or not density.any():
                continue
            truth = resized_density(density, clip.height, clip.width)
            given = [torch.from_numpy(value)[None].to(device) for value in inputs.values()]
            saliency_map = predict(*given).float()[:, 0].cpu()
            target = torch.from_numpy(truth)[None]
            kl, cc = kl_divergence(saliency_map, target).item(), correlation(saliency_map, target).item()
            points = np.argwhere(fixation_map(item.fixations(index), item.size, clip.height, clip.width))[:, ::-1]
            values = saliency_map[0].numpy()
            rows.append((kl_weight * kl + cc_weight * cc, cc, kl, sim(values, truth), nss(values, points)))
        if rows:
            means = np.ma.masked_invalid(np.array(rows)).mean(axis=0).filled(0.0)  # NSS without fixations is NaN
            sums += torch.tensor([*means, 1.0], dtype=torch.float64)
        progress()
    return sums


def means_of(sums: Tensor) -> dict[str, float]:
    """The scores by name, of the sums of all processes."""
    return {name: float(value / sums[-1]) for name, value in zip(NAMES, sums[:-1].tolist(), strict=True)}


class average_weights:  # noqa: N801 - a context manager, used like a function
    """Within it a model has its averaged weights.

    Args:
        model: the model.
        average: its state by name, or None to leave it as it is.
    """

    def __init__(self, model: nn.Module, average: dict[str, Tensor] | None) -> None:
        self._model, self._average = model, average
        self._own: dict[str, Tensor] = {}

    def __enter__(self) -> None:
        if self._average is not None:
            self._own = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
            self._model.load_state_dict(self._average)

    def __exit__(self, *_: object) -> None:
        if self._average is not None:
            self._model.load_state_dict(self._own)
