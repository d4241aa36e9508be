"""What a model must beat: maps that anybody can make without one."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Floats = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]

BLUR_OF_WIDTH = 0.03  # of a frame's width, about a degree of visual angle: what gaze data are blurred by


def frame_difference(before: Rgb, now: Rgb) -> Floats:
    """Absolute difference of two frames (H, W, 3), blurred; (H, W), at least 0."""
    change = np.abs(now.astype(np.float32) - before.astype(np.float32)).mean(axis=2)
    return blurred(change)


def static_saliency() -> dict[str, Callable[[Rgb], Floats]]:
    """OpenCV's static saliency, by name, each from a frame (H, W, 3) to (H, W); nothing where it is not installed."""
    try:
        import cv2

        modules = {
            "opencv spectral residual": cv2.saliency.StaticSaliencySpectralResidual.create(),
            "opencv fine grained": cv2.saliency.StaticSaliencyFineGrained.create(),
        }
    except (ImportError, AttributeError):  # absent, or built without its contributed modules
        return {}

    def computed(module: "cv2.saliency.StaticSaliency") -> Callable[[Rgb], Floats]:
        return lambda frame: blurred(np.asarray(module.computeSaliency(frame[:, :, ::-1].copy())[1], np.float32))

    return {name: computed(module) for name, module in modules.items()}


def blurred(values: Floats) -> Floats:
    """(H, W), at least 0, under a gaussian of about one degree, scaled to a largest value of 1."""
    scale = max(float(values.max()), 1e-12)
    image = Image.fromarray((values * (255 / scale)).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(BLUR_OF_WIDTH * values.shape[1]))
    return np.asarray(image, np.float32) / np.float32(255)
