"""What a window adds to frames that were encoded alone: motion, and which places move with the sound.

Not in the paper, whose encoder mixes times itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.encoders.efficientnet import ConvNorm
from dtfsal.training.model.precision import with_precision

MOTION_PARTS = 3  # what `motion_features` joins, each C* channels


def motion_features(finer: Tensor, x: Tensor, times: int) -> Tensor:
    """What is seen in each of level 4's cells, and how it changes.

    Level 4 is too coarse to show that something bobs or opens its mouth. Level 2, and how much each of its channels
    changes from one time to the next, are therefore averaged over each cell and joined to it.

    Args:
        finer: level 2, (B*T', C*, 4 h, 4 w).
        x: level 4, (B*T', C*, h, w).
        times: T'.

    Returns:
        (B*T', 3 C*, h, w): level 4, level 2, change of level 2.
    """
    factor = finer.shape[3] // x.shape[3]
    clip = finer.unflatten(0, (-1, times))  # (B, T', C*, 4 h, 4 w)
    change = pooled_change(clip[:, :-1].flatten(0, 1), clip[:, 1:].flatten(0, 1), factor)
    return join_motion(x, F.avg_pool2d(finer, factor), change.unflatten(0, (clip.shape[0], times - 1)))


def pooled_change(before: Tensor, after: Tensor, factor: int) -> Tensor:
    """How much each channel changes in each cell: two times (N, C*, 4 h, 4 w) to (N, C*, h, w)."""
    return F.avg_pool2d((after - before).abs(), factor)


def join_motion(x: Tensor, seen: Tensor, change: Tensor) -> Tensor:
    """The parts of `motion_features`.

    Args:
        x: level 4, (B*T', C*, h, w).
        seen: level 2, averaged over each cell, likewise.
        change: of level 2, from each time to the next, (B, T'-1, C*, h, w).

    Returns:
        (B*T', 3 C*, h, w).
    """
    change = F.pad(change, (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1)  # no change comes before the first time
    return torch.cat((x, seen, change), dim=1)


class TemporalMixing(nn.Module):
    """Level 4 mixed along time.

    A depthwise convolution along time of the motion features is projected and added: at first nothing, since the
    projection starts at zero.
    """

    KERNEL = 5  # times; 0.4 s at the lite preset's 12.5 Hz

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = MOTION_PARTS * width
        self.across = nn.Conv2d(channels, channels, (self.KERNEL, 1), padding=(self.KERNEL // 2, 0), groups=channels)
        self.project = with_precision(nn.Conv2d(channels, width, 1), int8=False)
        nn.init.zeros_(self.project.weight)
        assert self.project.bias is not None
        nn.init.zeros_(self.project.bias)

    def forward(self, motion: Tensor, x: Tensor, times: int) -> Tensor:
        """Motion features (B*T', 3 C*, h, w) and level 4 (B*T', C*, h, w) to (B*T', C*, h, w)."""
        y = motion.unflatten(0, (-1, times)).flatten(3).transpose(1, 2)  # -> (B, 3 C*, T', h*w)
        y = self.across(y).relu().transpose(1, 2).flatten(0, 1).unflatten(2, x.shape[2:])  # -> (B*T', 3 C*, h, w)
        return x + self.project(y)


class Synchrony(nn.Module):
    """How much each place moves with the sound: the correlation along time of what is seen there and what is heard.

    The motion features and the sound are projected to as many courses along time, each under a learned filter. A
    course's deviations from its mean over the window, divided by their root mean square, are multiplied with those of
    its partner and averaged. Nothing moves or nothing sounds: no correlation, whatever is heard or seen. (Correlation
    of image and sound along time finds who speaks since Hershey & Movellan 1999; a convolution over joined channels, as
    AMFB's, did not learn to multiply.)
    """

    COURSES = 32
    SEEN_KERNEL, HEARD_KERNEL = 5, 7  # times
    FLOOR = 0.05  # of the mean square; a course that varies less counts for less

    def __init__(self, width: int) -> None:
        super().__init__()
        courses, seen, heard = self.COURSES, self.SEEN_KERNEL, self.HEARD_KERNEL
        self.view = ConvNorm(MOTION_PARTS * width, 2 * courses)
        self.seen = nn.Conv2d(2 * courses, courses, (seen, 1), groups=courses)
        self.heard = nn.Conv2d(width, courses, (heard, 1))
        self.project = with_precision(nn.Conv2d(2 * courses, width, 1), int8=False)

    def forward(self, motion: Tensor, sound: Tensor, times: int) -> Tensor:
        """Motion features (B*T', 3 C*, h, w) and the sound along time (B, T', C*) to (B*T', C*, h, w)."""
        height, width = motion.shape[2:]
        seen = self.view(motion).unflatten(0, (-1, times)).flatten(3).transpose(1, 2)  # (B, 2 K, T', h*w)
        seen = standardised(self.seen(_held_ends(seen, self.SEEN_KERNEL // 2)))  # (B, K, T', h*w)
        heard = _held_ends(sound.transpose(1, 2)[..., None], self.HEARD_KERNEL // 2)
        heard = standardised(self.heard(heard))  # (B, K, T', 1)
        agreement = (seen * heard).mean(dim=2).unflatten(2, (height, width))  # (B, K, h, w)
        features = self.project(torch.cat((agreement, agreement * agreement), dim=1))
        return features.repeat_interleave(times, dim=0)


def standardised(courses: Tensor, floor: float = Synchrony.FLOOR) -> Tensor:
    """Deviations from the mean along time, over their root mean square (plus a floor): (B, K, T', n) as it is."""
    deviations = courses - courses.mean(dim=2, keepdim=True)
    return deviations / ((deviations * deviations).mean(dim=2, keepdim=True) + floor).sqrt()


def _held_ends(courses: Tensor, count: int) -> Tensor:
    """(B, K, T', n) with its first and its last time repeated; padding with zeros would look like a change."""
    return torch.cat((*[courses[:, :, :1]] * count, courses, *[courses[:, :, -1:]] * count), dim=2)
