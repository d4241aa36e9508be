"""The tables of the paper that are trained for, each row as what differs from the default, with the paper's scores.

A row is trained in two stages, as the paper does: the visual model on DHF1K, then, for other sets, all of it on each
fold. Scores are CC, NSS, AUC-Judd and SIM, None where the paper gives none. docs/explanation/ablations.md says how a
row was read where the paper leaves something open.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

Paper = tuple[float | None, float | None, float | None, float | None]  # CC, NSS, AUC-Judd, SIM
METRICS = ("cc", "nss", "auc_judd", "sim")
LTEB, DLTFB, NONE = "lteb", "dltfb", "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row.

    Attributes:
        label: the paper's.
        paper: its scores by data set; these are the sets that it is trained and scored on.
        audio: whether the model hears.
        changes: of the model's configuration.
        frames: of the clip; None for the model's own.
        losses: the weights of KL and CC (eq. 19).
        pretrained: whether the encoders start from published weights.
        visual_stage: whether an audio-visual row starts from what DHF1K taught.
        trained: in the second stage, "all" or "fusion".
        normalisation: in the second stage, see `Experiment`.
        parameters: millions that the paper states, of what `counted` names; None where it states none.
        counted: "model", "encoder" or "decoder".
    """

    label: str
    paper: Mapping[str, Paper]
    audio: bool = False
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    frames: int | None = None
    losses: tuple[float, float] = (1.0, -1.0)
    pretrained: bool = True
    visual_stage: bool = True
    trained: str = "all"
    normalisation: str = "cross-process"
    parameters: float | None = None
    counted: str = "model"


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of the paper."""

    title: str
    rows: tuple[PaperRow, ...]


def _enhancement(label: str, blocks: tuple[str, str, str, str], scores: Paper) -> PaperRow:
    return PaperRow(label=label, paper={"dhf1k": scores}, changes={"enhancement": blocks})


def _at(kind: str, level: int, others: str) -> tuple[str, str, str, str]:
    a, b, c, d = (kind if number == level else others for number in (1, 2, 3, 4))
    return a, b, c, d


_OURS_DHF1K: Paper = (0.561, 3.205, 0.923, 0.436)
_VISUAL: Mapping[str, Paper] = {
    "diem": (0.677, 2.76, 0.910, 0.548),
    "coutrot1": (0.623, 3.21, 0.904, 0.505),
    "coutrot2": (0.842, 6.42, 0.965, 0.618),
    "avad": (0.742, 4.21, 0.938, 0.559),
    "etmd": (0.653, 3.57, 0.939, 0.499),
    "summe": (0.561, 2.91, 0.911, 0.441),
}
_AUDIO_VISUAL: Mapping[str, Paper] = {
    "diem": (0.682, 2.98, 0.921, 0.562),
    "coutrot1": (0.661, 3.31, 0.911, 0.523),
    "coutrot2": (0.845, 6.72, 0.971, 0.649),
    "avad": (0.746, 4.36, 0.939, 0.595),
    "etmd": (0.667, 3.82, 0.957, 0.531),
    "summe": (0.573, 3.20, 0.927, 0.449),
}

TABLES: Mapping[str, PaperTable] = {
    "table1": PaperTable(
        "Audio-visual sets",
        (
            PaperRow(label="DTFSal(V)", paper=_VISUAL, parameters=40.73),
            PaperRow(label="DTFSal", paper=_AUDIO_VISUAL, audio=True, parameters=49.08),
        ),
    ),
    "table3": PaperTable(
        "Enhancement blocks at levels 1 to 4, DHF1K",
        (
            _enhancement("no block", (NONE,) * 4, (0.539, 2.972, 0.911, 0.432)),
            _enhancement("LTEB at 1", _at(LTEB, 1, NONE), (0.547, 3.080, 0.913, 0.438)),
            _enhancement("LTEB at 2", _at(LTEB, 2, NONE), (0.551, 3.081, 0.916, 0.435)),
            _enhancement("LTEB at 3", _at(LTEB, 3, NONE), (0.556, 3.133, 0.919, 0.436)),
            _enhancement("LTEB at 4", _at(LTEB, 4, NONE), (0.556, 3.117, 0.918, 0.434)),
            _enhancement("LTEB at 2, 3, 4", (NONE, LTEB, LTEB, LTEB), (0.589, 3.132, 0.920, 0.434)),
            _enhancement("LTEB at all", (LTEB,) * 4, (0.560, 3.190, 0.922, 0.436)),
            _enhancement("DLTFB at 1", _at(DLTFB, 1, LTEB), (0.557, 3.148, 0.920, 0.439)),
            _enhancement("DLTFB at 2", _at(DLTFB, 2, LTEB), (0.549, 3.108, 0.918, 0.433)),
            _enhancement("DLTFB at 3", _at(DLTFB, 3, LTEB), (0.560, 3.190, 0.922, 0.436)),
            _enhancement("DLTFB at 4", _at(DLTFB, 4, LTEB), (0.561, 3.205, 0.923, 0.446)),
            _enhancement("DLTFB at all", (DLTFB,) * 4, (0.560, 3.149, 0.922, 0.432)),
        ),
    ),
    "table4": PaperTable(
        "Fusion of picture and sound",
        (
            PaperRow(
                label="concatenation",
                audio=True,
                changes={"fusion": "concatenation"},
                paper={"etmd": (0.625, 2.74, 0.910, 0.381), "avad": (0.690, 3.61, 0.920, 0.531)},
            ),
            PaperRow(
                label="cross-attention",
                audio=True,
                changes={"fusion": "cross-attention"},
                paper={"etmd": (0.635, 3.16, 0.907, 0.485), "avad": (0.696, 3.563, 0.926, 0.539)},
            ),
            PaperRow(
                label="AMFB",
                audio=True,
                paper={"etmd": (0.667, 3.82, 0.957, 0.531), "avad": (0.746, 4.36, 0.939, 0.595)},
            ),
        ),
    ),
    "table5": PaperTable(
        "Decoders, DHF1K",
        (
            PaperRow(
                label="one decoder",
                changes={"decoder": "single"},
                paper={"dhf1k": (0.558, 3.148, 0.920, 0.425)},
                parameters=0.43,
                counted="decoder",
            ),
            PaperRow(
                label="U-Net",
                changes={"decoder": "unet"},
                paper={"dhf1k": (0.555, 3.154, 0.922, 0.414)},
                parameters=2.84,
                counted="decoder",
            ),
            PaperRow(label="multi-decoder", paper={"dhf1k": _OURS_DHF1K}, parameters=1.74, counted="decoder"),
        ),
    ),
    "table7": PaperTable(
        "Visual sets",
        (PaperRow(label="DTFSal(V)", paper={"dhf1k": _OURS_DHF1K, "ucf-sports": (0.768, 4.04, 0.947, 0.614)}),),
    ),
    "table9": PaperTable(
        "Visual encoders, DHF1K",
        (
            PaperRow(
                label="S3D",
                changes={"encoder": {"kind": "s3d"}},
                paper={"dhf1k": (0.543, 2.954, 0.914, 0.396)},
                parameters=8.77,
                counted="encoder",
            ),
            PaperRow(
                label="Video Swin-S",
                changes={"encoder": {"kind": "video-swin"}},
                paper={"dhf1k": (0.542, 3.08, 0.920, 0.419)},
                parameters=49.8,
                counted="encoder",
            ),
            PaperRow(
                label="MViTv2-S", paper={"dhf1k": (0.561, 3.205, 0.923, 0.446)}, parameters=35.0, counted="encoder"
            ),
        ),
    ),
    "table10": PaperTable(
        "Published weights for the encoder, DHF1K",
        (
            PaperRow(label="without", pretrained=False, paper={"dhf1k": (0.400, 2.149, 0.879, 0.324)}),
            PaperRow(label="with", paper={"dhf1k": (0.561, 3.205, 0.923, 0.446)}),
        ),
    ),
    "table11": PaperTable(
        "Strategies for the audio-visual model",
        (
            PaperRow(
                label="without DHF1K",
                audio=True,
                visual_stage=False,
                paper={"etmd": (0.628, None, None, 0.479), "avad": (0.682, None, None, 0.525)},
            ),
            PaperRow(
                label="only the fusion",
                audio=True,
                trained="fusion",
                paper={"etmd": (0.642, None, None, 0.482), "avad": (0.700, None, None, 0.532)},
            ),
            PaperRow(
                label="all of it",
                audio=True,
                paper={"etmd": (0.667, None, None, 0.531), "avad": (0.746, None, None, 0.595)},
            ),
        ),
    ),
    "table12": PaperTable(
        "Clip length, DHF1K",
        tuple(
            PaperRow(label=f"T = {frames}", frames=frames, paper={"dhf1k": scores})
            for frames, scores in (
                (4, (0.506, 2.848, 0.908, 0.409)),
                (8, (0.512, 2.513, 0.910, 0.419)),
                (16, (0.547, 3.044, 0.917, 0.434)),
                (32, (0.561, 3.205, 0.923, 0.441)),
                (48, (0.557, 3.166, 0.920, 0.436)),
            )
        ),
    ),
    "table13": PaperTable(
        "Losses, DHF1K",
        (
            PaperRow(label="KL", losses=(1.0, 0.0), paper={"dhf1k": (0.558, 3.173, None, 0.434)}),
            PaperRow(label="CC", losses=(0.0, -1.0), paper={"dhf1k": (0.557, 3.177, None, 0.433)}),
            PaperRow(label="KL - CC", paper={"dhf1k": (0.561, 3.205, None, 0.436)}),
        ),
    ),
    "table14": PaperTable(
        "Losses, audio-visual sets",
        (
            PaperRow(
                label="KL",
                audio=True,
                losses=(1.0, 0.0),
                paper={"etmd": (0.668, 3.67, None, 0.646), "avad": (0.684, 3.75, None, 0.528)},
            ),
            PaperRow(
                label="CC",
                audio=True,
                losses=(0.0, -1.0),
                paper={"etmd": (0.606, 3.26, None, 0.460), "avad": (0.696, 3.78, None, 0.540)},
            ),
            PaperRow(
                label="KL - CC",
                audio=True,
                paper={"etmd": (0.667, 3.82, None, 0.531), "avad": (0.756, 4.36, None, 0.595)},
            ),
        ),
    ),
}
