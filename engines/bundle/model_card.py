"""The README.md that goes with a shared engine: what it is, how it was made, and what its maps are not."""

from __future__ import annotations

import re

from dtfsal.engines.bundle.folder import Bundle, read_bundle
from dtfsal.engines.bundle.shipped import shipped_engines
from dtfsal.engines.errors import EngineError, UsageError

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_SHIPPED_LICENCE = "apache-2.0"

_CARD = """\
---
{front}
tags:
- saliency
- eye-tracking
- video
---

# {title}

This is an engine of [dtfsal](https://arxiv.org/abs/2504.10070). It predicts where people look in a video{with_sound}:
one saliency map per frame.

```
pip install 'dtfsal[hub]'
dtfsal predict clip.mp4 -e {name}
```

```python
from dtfsal import SaliencyPredictor

with SaliencyPredictor.from_pretrained("{name}") as predictor:
    for frame in predictor.predict_file("clip.mp4"):
        print(frame.time_seconds, frame.saliency_map.max())
```

Add `@COMMIT` to the name to keep to one version.

## What it is

| | |
|---|---|
{what}

## How it was built

| | |
|---|---|
{built}

`engine/manifest.json` lists every file with its SHA-256. {weights_file}

## What it is not

A map is a prediction of a model. It is no measurement of anybody's gaze, and says nothing about a single person. How
good it is depends on the weights, and on how your videos differ from what they learned from: measure that before you
rely on it. Do not decide about people by it.

## Trust

An engine is data: graphs and weights. dtfsal runs no code that an engine brings{code}.

## Licence

{licence}
"""


def model_card(bundle: Bundle, *, name: str = "org/name", licence: str | None = None, has_weights: bool = False) -> str:
    """The text of the card.

    Args:
        bundle: the engine.
        name: the repository's.
        licence: the weights' licence by its SPDX name; None for what is known of the package's own weights, or nothing.
        has_weights: whether the weights lie beside the engine.

    Raises:
        UsageError: the licence is not such a name.
    """
    manifest = bundle.manifest
    if licence is None and manifest.weights["sha256"] in _shipped_weights():
        licence = _SHIPPED_LICENCE
    licence = None if licence is None else licence.lower()
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise UsageError(f"a licence is given by its SPDX name, such as apache-2.0, not {licence!r}")
    clip, audio, digest = manifest.clip, manifest.audio, manifest.weights["sha256"]
    sound = "not heard" if audio is None else f"{audio.slices} log-mel slices from {audio.sample_rate_hz} Hz mono"
    target = f"{manifest.target}, {manifest.precision}"
    devices = ", ".join(manifest.compute_capabilities)
    what = {
        "model": manifest.model_name,
        "runs on": target + (f", compute capability {devices}" if devices else ""),
        "frames": f"{clip.frames} of {clip.width}x{clip.height} at {clip.frame_rate_hz:g} Hz; the map belongs to "
        f"frame {clip.target_index}",
        "sound": sound,
        "size": f"{manifest.size_bytes / 1e6:.1f} MB",
    }
    built = {
        "made by": f"{manifest.created_by}, {manifest.builder} {manifest.builder_version}",
        "weights": manifest.weights["source"],
        "SHA-256 of the weights": digest or "none: random weights, whose maps mean nothing",
        "temporal rule": manifest.temporal_rule,
    }
    brought = ", ".join(map(_plain, bundle.native_code))
    return _CARD.format(
        front="\n".join(([f"license: {licence}"] if licence else []) + ["library_name: dtfsal"]),
        title=_plain(name),
        name=name,
        with_sound="" if audio is None else " with sound",
        what=_rows(what),
        built=_rows(built),
        weights_file="`weights.safetensors` holds the weights: `dtfsal build --weights "
        f"{name}` builds other engines of them."
        if has_weights
        else "The weights themselves are not here.",
        code=f". This one brings some ({brought}), and is refused unless you give `--trust-engine`" if brought else "",
        licence=f"The weights are under {licence}." if licence else "The maker of the engine has stated no licence.",
    )


def _shipped_weights() -> set[str | None]:
    """Digests of the weights of the engines that the package carries, which are under its licence."""
    found = set()
    for engine in shipped_engines():
        try:
            found.add(read_bundle(engine, verify=False).manifest.weights["sha256"])
        except EngineError:
            continue
    return found - {None}


def _rows(facts: dict[str, str]) -> str:
    return "\n".join(f"| {name} | {_plain(value)} |" for name, value in facts.items())


def _plain(text: str) -> str:
    """A text of a manifest that cannot act as markup in the card."""
    return re.sub(r"([\\`*_|<>\[\]#&])", r"\\\1", text)
