"""A clip predicted mirrored, against the same frames mirrored by hand; muted, against none heard."""

import numpy as np

from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.media.video import VideoReader

SIZE = (224, 384)  # the model's, so that no frame is resized before or after it is mirrored


def maps_of(prediction):
    with prediction:
        return np.stack([frame.saliency_map for frame in prediction])


def test_a_mirrored_clip_has_the_maps_of_its_mirrored_frames_mirrored_back(clip):
    """Of `lite`, which looks at neighbours: mirroring a map alone would not do."""
    video = clip(count=3, size=SIZE)
    with SaliencyPredictor("lite", device="cpu") as predictor:
        plain, mirrored = (maps_of(predictor.predict_file(video, mirrored=way)) for way in (False, True))
        frames = np.stack([frame.rgb for frame in VideoReader(video)])
        by_hand = predictor.predict_arrays(frames[:, :, ::-1], 25)[:, :, ::-1]
    np.testing.assert_allclose(mirrored, by_hand, atol=1e-5)
    assert np.abs(mirrored - plain).max() > 0.01


def test_a_muted_clip_has_the_maps_of_silence(clip, toy_engine):
    silent = clip(name="silent.mp4", count=3)
    loud = clip(name="loud.mp4", count=3, samples=np.sin(np.arange(6000) / 3))
    with SaliencyPredictor(toy_engine, device="cpu") as predictor:
        heard = maps_of(predictor.predict_file(loud))
        muted = maps_of(predictor.predict_file(loud, muted=True))
        none = maps_of(predictor.predict_file(silent))
        assert predictor.predict_file(loud, muted=True).sound == "silence"
    np.testing.assert_allclose(muted, none, atol=1e-6)
    assert np.abs(heard - muted).max() > 0.01
