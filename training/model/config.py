"""What a model is: frozen configurations, the presets, and their way to JSON and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from dtfsal.engines.bundle.specs import FIRST_TEMPORAL_RULE, TEMPORAL_RULE, AudioSpec, ClipSpec
from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.engines.limits import check_model_values

FusionKind = Literal["amfb", "concatenation", "cross-attention"]
DecoderKind = Literal["multi", "single", "unet"]
Normalisation = Literal["batch", "layer"]
ENHANCEMENTS = ("lteb", "dltfb", "none")
PYRAMID_STRIDES = (4, 8, 16, 32)  # eq. 1: level i has 1 / 2^(i+1) of the frame's height and width
TEMPORAL_STRIDE = 2  # eq. 1: T' = T / 2 token times of MViTv2


@dataclasses.dataclass(frozen=True, kw_only=True)
class MViTConfig:
    """MViTv2 (Li et al. 2022); the defaults are MViTv2-S as the Kinetics-400 checkpoints have it.

    Attributes:
        widths: channels of the four stages; a stage's first block widens and, from the second on, pools queries by 2.
        depths: blocks in each stage.
        head_dim: channels of one attention head, the same everywhere.
        first_kv_stride: spatial stride that pools keys and values in the first stage; halved in each later one.
        mlp_ratio: hidden width of a block's MLP over its width.
        kind: names this configuration among the encoders' in a file.
    """

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (1, 2, 11, 2)
    head_dim: int = 96
    first_kv_stride: int = 8
    mlp_ratio: float = 4.0
    kind: str = "mvitv2"
    temporal_stride: ClassVar[int] = TEMPORAL_STRIDE

    def __post_init__(self) -> None:
        if self.kind != "mvitv2":
            raise UsageError(f"encoder.kind must be 'mvitv2' for these fields, not {self.kind!r}")
        if len(self.widths) != 4 or len(self.depths) != 4:
            raise UsageError("encoder.widths and encoder.depths need four values, one for each level of the pyramid")
        if min(self.depths) < 1 or min(self.widths) < 1 or self.head_dim < 1:
            raise UsageError("encoder.widths, encoder.depths and encoder.head_dim must be positive")
        if any(width % self.head_dim for width in self.widths):
            raise UsageError(f"encoder.widths {self.widths} must be multiples of encoder.head_dim {self.head_dim}")
        if self.first_kv_stride not in (1, 2, 4, 8):
            raise UsageError(f"encoder.first_kv_stride must be 1, 2, 4 or 8, not {self.first_kv_stride}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """EfficientNet-Lite0, which sees each frame alone: T' = T, and neighbouring windows share its features.

    Attributes:
        kind: names this configuration among the encoders' in a file.
    """

    kind: str = "efficientnet-lite0"
    temporal_stride: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.kind != "efficientnet-lite0":
            raise UsageError(f"encoder.kind must be 'efficientnet-lite0' for these fields, not {self.kind!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class S3DConfig:
    """S3D (Xie et al. 2018), for Table 9.

    Attributes:
        kind: names this configuration among the encoders' in a file.
    """

    kind: str = "s3d"
    temporal_stride: ClassVar[int] = TEMPORAL_STRIDE

    def __post_init__(self) -> None:
        if self.kind != "s3d":
            raise UsageError(f"encoder.kind must be 's3d' for these fields, not {self.kind!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Video Swin (Liu et al. 2022), for Table 9; the defaults are Video Swin-S.

    Attributes:
        width: of the first stage; each later one is twice as wide.
        depths: blocks of each stage.
        heads: of each stage's attention.
        window: tokens of a window: times, rows, columns.
        patch: pixels of a token: frames, rows, columns.
        kind: names this configuration among the encoders' in a file.
    """

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: tuple[int, int, int] = (8, 7, 7)
    patch: tuple[int, int, int] = (2, 4, 4)
    kind: str = "video-swin"
    temporal_stride: ClassVar[int] = TEMPORAL_STRIDE

    def __post_init__(self) -> None:
        if self.kind != "video-swin":
            raise UsageError(f"encoder.kind must be 'video-swin' for these fields, not {self.kind!r}")
        if len(self.depths) != 4 or len(self.heads) != 4 or min(*self.depths, *self.heads, self.width) < 1:
            raise UsageError("encoder.depths and encoder.heads need four positive values, encoder.width one")
        if any(self.width * 2**stage % heads for stage, heads in enumerate(self.heads)):
            raise UsageError(f"encoder.heads {self.heads} must divide the stages' widths, {self.width} and its doubles")
        if len(self.window) != 3 or min(self.window) < 1 or tuple(self.patch) != (2, 4, 4):
            raise UsageError("encoder.window needs three positive values, and encoder.patch must be 2, 4, 4")


EncoderConfig: TypeAlias = MViTConfig | EfficientNetConfig | S3DConfig | SwinConfig
# Configurations of visual encoders by their kind; see `dtfsal.training.model.encoders.base` for what they describe.
ENCODER_CONFIGS: Mapping[str, type[EncoderConfig]] = {
    "mvitv2": MViTConfig,
    "efficientnet-lite0": EfficientNetConfig,
    "s3d": S3DConfig,
    "video-swin": SwinConfig,
}
AudioReadout = Literal["grid", "timeline"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioBranchConfig:
    """VGGish's convolutions (Hershey et al. 2017) and the temporal enhancement behind them.

    Attributes:
        widths: output channels of the six convolutions; max pooling follows the 1st, 2nd, 4th and 6th.
        heads: attention heads of the Transformer layer.
        mlp_ratio: hidden width of its MLP over its width.
        readout: "grid" hands the slices' features on as they lie, time in rows and pitch in columns, as the paper does;
            "timeline" has each channel weigh the pitches, lays the slices' rows on the window's time, and hands what
            is heard at a time to every place of the frame alike.
    """

    widths: tuple[int, ...] = (64, 128, 256, 256, 512, 512)
    heads: int = 6
    mlp_ratio: float = 4.0
    readout: AudioReadout = "grid"

    def __post_init__(self) -> None:
        if self.readout not in ("grid", "timeline"):
            raise UsageError(f"audio_branch.readout must be 'grid' or 'timeline', not {self.readout!r}")
        if len(self.widths) != 6 or min(self.widths) < 1:
            raise UsageError(f"audio_branch.widths needs six positive values, not {self.widths}")
        if self.heads < 1:
            raise UsageError(f"audio_branch.heads must be positive, not {self.heads}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """DTFSal, or DTFSal(V) where `audio` is None.

    Attributes:
        name: what reports and manifests call the model.
        clip: the video it takes.
        audio: the sound slices it takes, half the frame's height and width; None for the visual model.
        encoder: the visual encoder.
        audio_branch: the sound encoder; unused where audio is None.
        width: C*, the channels of the refined features (eq. 2).
        tokens: N, the learnable tokens of each enhancement block (eq. 5-6).
        max_shift: s; DLTFB shifts 2 s + 1 groups of channels by -s..s positions.
        decoder_widths: channels of a decoder's four 3x3x3 convolutions.
        enhancement: the block of each level: "lteb", "dltfb" or "none" (Table 3).
        fusion: of picture and sound: "amfb", "concatenation" or "cross-attention" (Table 4).
        decoder: "multi" for one for each level, "single" or "unet" for one of all (Table 5).
        temporal_mixing: whether level 4 is mixed along time and set against the sound before the fusion, for encoders
            that see frames alone.
        token_grid: rows and columns of the token maps, which weights for another frame size keep; None for those of
            the pyramid's last level.
        temporal_rule: how the decoders bring T' times to one; there is one rule, and weights of another are refused.
        normalisation: behind the convolutions of fusion and decoders: "batch", or "layer" for one over each map's
            channels, rows and columns, which does not depend on the batch. Engines are built of "batch".
    """

    name: str
    clip: ClipSpec
    audio: AudioSpec | None
    encoder: EncoderConfig = MViTConfig()
    audio_branch: AudioBranchConfig = AudioBranchConfig()
    width: int = 192
    tokens: int = 5
    max_shift: int = 2
    decoder_widths: tuple[int, ...] = (64, 32, 32, 16)
    enhancement: tuple[str, ...] = ("lteb", "lteb", "lteb", "dltfb")
    fusion: FusionKind = "amfb"
    decoder: DecoderKind = "multi"
    temporal_mixing: bool = False
    token_grid: tuple[int, int] | None = None
    temporal_rule: str = TEMPORAL_RULE
    normalisation: Normalisation = "batch"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UsageError(f"name must be a text, not {self.name!r}")
        if self.temporal_rule != TEMPORAL_RULE:
            raise UsageError(
                f"temporal_rule must be {TEMPORAL_RULE!r}, the only one that this version has, not "
                f"{str(self.temporal_rule)[:40]!r}: upgrade dtfsal"
            )
        clip, audio, stride = self.clip, self.audio, PYRAMID_STRIDES[-1]
        if clip.frames % self.encoder.temporal_stride or clip.height % stride or clip.width % stride:
            raise UsageError(
                f"clip {clip.frames}x{clip.height}x{clip.width} does not fit the encoder's strides: frames must be a "
                f"multiple of {self.encoder.temporal_stride}, height and width multiples of {stride}"
            )
        if audio is not None and (audio.height, audio.width) != (clip.height // 2, clip.width // 2):
            raise UsageError(
                f"audio slices are {audio.height}x{audio.width}, but must have half the frame's height and width "
                f"({clip.height // 2}x{clip.width // 2}) so that they land on the encoder's last grid"
            )
        for name in ("width", "tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, not {getattr(self, name)}")
        if type(self.temporal_mixing) is not bool:
            raise UsageError(f"temporal_mixing must be true or false, not {self.temporal_mixing!r}")
        if not 0 <= self.max_shift * 2 + 1 <= self.width or self.max_shift < 0:
            raise UsageError(f"max_shift {self.max_shift} needs 2 s + 1 groups among {self.width} channels")
        if len(self.decoder_widths) != 4 or min(self.decoder_widths) < 1:
            raise UsageError(f"decoder_widths needs four positive values, not {self.decoder_widths}")
        if len(self.enhancement) != 4 or not set(self.enhancement) <= set(ENHANCEMENTS):
            raise UsageError(f"enhancement needs four of {', '.join(ENHANCEMENTS)}, not {self.enhancement}")
        choices = (("fusion", FusionKind), ("decoder", DecoderKind), ("normalisation", Normalisation))
        for name, kinds in ((name, get_args(kind)) for name, kind in choices):
            if getattr(self, name) not in kinds:
                raise UsageError(f"{name} must be one of {', '.join(kinds)}, not {getattr(self, name)!r}")
        if self.token_grid is not None and (len(self.token_grid) != 2 or min(self.token_grid) < 1):
            raise UsageError(f"token_grid needs two positive numbers, not {self.token_grid}")
        if audio is not None and self.width % self.audio_branch.heads:
            raise UsageError(f"width {self.width} must be a multiple of audio_branch.heads {self.audio_branch.heads}")

    @property
    def times(self) -> int:
        """T', the token times of a window."""
        return self.clip.frames // self.encoder.temporal_stride

    @property
    def target_time(self) -> int:
        """The token time, in [0, T'), that the target frame belongs to."""
        return self.clip.target_index // self.encoder.temporal_stride

    @property
    def token_map_size(self) -> tuple[int, int]:
        """Rows and columns of the token maps."""
        stride = PYRAMID_STRIDES[-1]
        return self.token_grid or (self.clip.height // stride, self.clip.width // stride)

    def resized(
        self, *, frames: int | None = None, height: int | None = None, width: int | None = None
    ) -> "ModelConfig":
        """The same model for another clip length or frame size; its sound slices follow the frame size."""
        clip = dataclasses.replace(
            self.clip,
            frames=frames or self.clip.frames,
            height=height or self.clip.height,
            width=width or self.clip.width,
        )
        audio = self.audio and dataclasses.replace(self.audio, height=clip.height // 2, width=clip.width // 2)
        return dataclasses.replace(self, clip=clip, audio=audio)

    def for_clip(
        self, *, frames: int | None = None, height: int | None = None, width: int | None = None
    ) -> "ModelConfig":
        """As `resized`, of a model whose weights stay: token maps keep their grid."""
        resized = self.resized(frames=frames, height=height, width=width)
        found = dataclasses.replace(resized, token_grid=None)
        kept = self.token_map_size
        return found if found.token_map_size == kept else dataclasses.replace(found, token_grid=kept)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON types; without `normalisation` where it is "batch", as versions before it wrote."""
        fields: dict[str, Any] = jsonable(dataclasses.asdict(self))
        if self.normalisation == "batch":
            del fields["normalisation"]
        return fields

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`.

        Raises:
            UsageError: a key is unknown or missing, or a value can't be.
        """
        if isinstance(data, Mapping) and "temporal_rule" not in data:
            raise UsageError(
                "the configuration names no temporal rule: it is the first version's, whose decoders do not see the "
                f"frame that they predict ({FIRST_TEMPORAL_RULE}), and this version knows {TEMPORAL_RULE} only; train "
                "the model again, or build the engine again from weights of this version"
            )
        check_model_values(data)
        parts: dict[str, Any] = {"clip": ClipSpec, "audio": AudioSpec, "audio_branch": AudioBranchConfig}
        try:
            fields = dict(data)
            kind = dict(fields.get("encoder") or {}).get("kind", "mvitv2")
            if kind not in ENCODER_CONFIGS:
                raise UsageError(
                    f"this version has no encoder {kind!r}, only {', '.join(ENCODER_CONFIGS)}: upgrade dtfsal"
                )
            parts["encoder"] = ENCODER_CONFIGS[kind]
            for key, part in parts.items():
                if fields.get(key) is not None:
                    fields[key] = part(**_tupled(fields[key]))
            return cls(**_tupled(fields))
        except MALFORMED as error:
            raise UsageError(f"this is not the configuration of a dtfsal model: {error}") from error


def jsonable(value: Any) -> Any:
    """A value of dictionaries and sequences in the types that JSON and YAML give back: tuples are lists."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, tuple | list) else value


def _tupled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _presets() -> dict[str, ModelConfig]:
    # Table 1's two models; DHF1K scores the last frame of a window, the audio-visual sets its centre.
    dtfsal = ModelConfig(
        name="dtfsal",
        clip=ClipSpec(frames=32, height=224, width=384, target="centre"),
        audio=AudioSpec(slices=9, height=112, width=192),
    )
    dtfsal_v = dataclasses.replace(
        dtfsal, name="dtfsal-v", audio=None, clip=dataclasses.replace(dtfsal.clip, target="last")
    )
    # Every part of the above with small widths: for tests, and for a first look on any machine.
    tiny = ModelConfig(
        name="tiny",
        clip=ClipSpec(frames=16, height=96, width=160, target="centre"),
        audio=AudioSpec(slices=9, height=48, width=80),
        encoder=MViTConfig(widths=(16, 32, 64, 128), depths=(1, 1, 2, 1), head_dim=16),
        audio_branch=AudioBranchConfig(widths=(8, 16, 32, 32, 64, 64), heads=2),
        width=32,
        decoder_widths=(16, 16, 8, 8),
    )
    tiny_v = dataclasses.replace(tiny, name="tiny-v", audio=None, clip=dataclasses.replace(tiny.clip, target="last"))
    # Small enough to follow a video live on a laptop's CPU: each frame is encoded once. 16 taps at 12.5 Hz span as much
    # time as the paper's 32 at 25 Hz. The normalisation is that of the encoder's ImageNet weights.
    lite = ModelConfig(
        name="lite",
        clip=ClipSpec(
            frames=16,
            height=224,
            width=384,
            frame_rate_hz=12.5,
            target="centre",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        audio=AudioSpec(slices=9, height=112, width=192),
        encoder=EfficientNetConfig(),
        audio_branch=AudioBranchConfig(widths=(16, 24, 32, 32, 64, 64), heads=4, mlp_ratio=2.0, readout="timeline"),
        width=48,
        decoder_widths=(16, 16, 8, 8),
        temporal_mixing=True,
    )
    return {preset.name: preset for preset in (dtfsal, dtfsal_v, tiny, tiny_v, lite)}


PRESETS: Mapping[str, ModelConfig] = _presets()


def resolve_config(preset_or_config: str | ModelConfig) -> ModelConfig:
    """A preset's configuration by name, or the configuration itself.

    Raises:
        UsageError: no preset has that name.
    """
    if isinstance(preset_or_config, ModelConfig):
        return preset_or_config
    if preset_or_config not in PRESETS:
        raise UsageError(f"there is no preset {preset_or_config!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[preset_or_config]
