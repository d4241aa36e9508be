"""What a run does to each of its videos: the engine and the options that its results depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from dtfsal.engines.bundle.folder import Bundle, read_bundle
from dtfsal.engines.bundle.manifest import MANIFEST_FILE, sha256_file
from dtfsal.runtime.frontend.windows import Padding
from dtfsal.runtime.predict.maps import Normalisation
from dtfsal.runtime.predict.prediction import Prediction
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.runtime.sinks.base import MapSize, SinkContext, View
from dtfsal.runtime.sinks.outputs import Kind, Output, write_outputs

# What a result's name adds to its video's; a folder of PNG frames has the video's own name.
SUFFIXES: dict[Kind, str] = {
    "video": ".saliency.mp4",
    "png": "",
    "npz": ".npz",
    "hdf5": ".h5",
    "csv": ".csv",
    "json": ".json",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of a run that its results depend on, and the engine's name.

    Attributes:
        engine: as `SaliencyPredictor` takes it.
        engine_sha256: of the engine's manifest, which lists the SHA-256 of each of its files.
        version: of dtfsal.
        kinds: of outputs, for each video.
        stride: as for `SaliencyPredictor`, as the three below.
        padding: see there.
        smoothing: see there.
        normalisation: see there; None for the model's own scale in raw maps and the largest value 1 in pictures.
        map_size: of raw maps.
        view: of pictures.
        video_stream: number of the stream to read; None for the main one.
        audio_stream: number of the sound stream to hear; None for the default one.
    """

    engine: str
    engine_sha256: str
    version: str
    kinds: tuple[Kind, ...]
    stride: int = 1
    padding: Padding = "reverse"
    smoothing: float = 0.0
    normalisation: Normalisation | None = None
    map_size: MapSize = "model"
    view: View | None = None
    video_stream: int | None = None
    audio_stream: int | None = None

    @classmethod
    def of(cls, engine: str, **options: Any) -> Settings:
        """Settings with an engine, which is read and checked.

        Raises:
            EngineError: it is missing, damaged or not one.
        """
        return cls(engine=engine, engine_sha256=digest(read_bundle(engine)), version=version("dtfsal"), **options)

    def identity(self) -> dict[str, Any]:
        """What results depend on, as plain JSON values: all but the engine's name, which may be another elsewhere."""
        fields = dataclasses.asdict(self)
        del fields["engine"]
        return fields | {"kinds": sorted(self.kinds)}

    def outputs(self, folder: Path, place: PurePosixPath) -> list[Output]:
        """A video's outputs below a folder."""
        return [Output(folder / f"{place}{SUFFIXES[kind]}", kind) for kind in self.kinds]

    def predictor(self, *, device: str, threads: int | None, trust: bool) -> SaliencyPredictor:
        """A predictor with these options; see `SaliencyPredictor`."""
        return SaliencyPredictor(
            self.engine,
            padding=self.padding,
            stride=self.stride,
            smoothing_sigma=self.smoothing,
            normalisation=self.normalisation or "none",
            device=device,
            threads=threads,
            trust=trust,
        )

    def context(self, predictor: SaliencyPredictor, prediction: Prediction) -> SinkContext:
        """What the outputs of a file's prediction are told."""
        assert prediction.info is not None
        scale: Normalisation | None = self.normalisation
        return SinkContext(
            source=prediction.info,
            model_name=predictor.engine.manifest.model_name,
            model_size=(predictor.clip.height, predictor.clip.width),
            clock=prediction.clock,
            view=self.view,
            # A map that sums to 1 is too dark to see.
            picture_normalisation="max" if scale in (None, "sum") else scale,
            map_normalisation=scale or "none",
            map_size=self.map_size,
        )

    def predict(
        self,
        predictor: SaliencyPredictor,
        path: Path,
        outputs: list[Output],
        on_frame: Callable[[Prediction], object] = lambda _prediction: None,
    ) -> Prediction:
        """Predict a video and write its outputs.

        Args:
            predictor: of these settings.
            path: the video.
            outputs: what to write; see `outputs`.
            on_frame: called some time after each frame is written.

        Returns:
            The prediction, at its end.

        Raises:
            DtfsalError: as `SaliencyPredictor.predict_file` and `write_outputs` raise them.
        """
        prediction = predictor.predict_file(path, video_stream=self.video_stream, audio_stream=self.audio_stream)
        context = self.context(predictor, prediction)
        write_outputs(prediction, outputs, context, on_frame=lambda _frame: on_frame(prediction))
        return prediction


def digest(bundle: Bundle) -> str:
    """SHA-256 of an engine's manifest, and so of all its files."""
    return sha256_file(bundle.path / MANIFEST_FILE)
