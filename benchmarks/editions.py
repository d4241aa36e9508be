"""Two editions of `lite` side by side: `python -m dtfsal.benchmarks.editions BEFORE AFTER -o TABLE.md`.

BEFORE and AFTER are folders of results, as `dtfsal benchmark refresh` writes them. The table takes its figures from
their JSON: gaze on photographs, synthetic scenes, two faces and a voice, steadiness on real clips, delay, and the live
rate. Where a result has 95 % intervals, they stand in brackets.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.benchmarks.report.figures import new_figure, save
from dtfsal.benchmarks.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OSIE, SYNTHETIC = "lite-osie/scores.json", "lite-synthetic/scores.json"
STABILITY, DELAY, LIVE = "stability-lite.json", "delay-lite.json", "live-lite-cpu.json"
# The first editions do without these.
CROWD, SCENE, ACTION = "lite-crowd/scores.json", "lite-scene/scores.json", "lite-action/scores.json"
VOICES = "voices-lite.json"
LATER = (CROWD, SCENE, ACTION, VOICES)
METRICS = (("cc", "CC"), ("nss", "NSS"), ("sim", "SIM"), ("kl", "KL"), ("auc_judd", "AUC-Judd"))
FILES = (OSIE, SYNTHETIC, STABILITY, DELAY, LIVE)
# Predictors that stand beside the model, by what the table calls them.
ON_PHOTOGRAPHS = {
    "average gaze, CC": "gaze prior",
    "ceiling (half of the observers predict the other half), CC": "half of the observers",
    "on the ceiling's halves, CC": "model, on the other half",
}
ON_ACTION = {"model": "model", "frame difference": "frame difference", "centre": "centre"}


def figures(results: dict[str, Any]) -> dict[str, str]:
    """The rows that these results can fill, in the order of the table; empty where nothing was measured."""
    osie, synthetic = results[OSIE], results[SYNTHETIC]
    rows = {f"OSIE, {name}": _figure(osie, "all", "model", metric) for metric, name in METRICS}
    rows["OSIE with any sound, CC"] = _figure(osie, "all", "model, any sound")
    for title, file in (("OSIE", OSIE), ("Crowd", CROWD), ("Scene", SCENE)):
        if file not in results:
            continue
        if file != OSIE:
            rows |= {f"{title}, {name}": _figure(results[file], "all", "model", metric) for metric, name in METRICS[:2]}
        measured = results[file]["scores"]["all"]
        rows |= {
            f"{title}, {name}": _figure(results[file], "all", of)
            for name, of in ON_PHOTOGRAPHS.items()
            if of in measured
        }
    for kind, scores in synthetic["scores"].items():
        rows[f"scenes, {kind}: CC"] = _figure(synthetic, kind, "model")
        if kind in ("sound_decides", "speakers"):
            heard, muted = (scores[of]["cc"] for of in ("model", "model, muted"))
            gain = None if heard is None or muted is None else heard - muted
            gains = synthetic.get("gains", {}).get(kind, {}).get("model, muted", {}).get("cc", [])
            rows[f"scenes, {kind}: CC with sound less CC muted"] = _score(gain, gains[1:])
    if ACTION in results:
        rows |= {f"scenes of action, {name}: CC": _figure(results[ACTION], "all", of) for name, of in ON_ACTION.items()}
    if VOICES in results:
        gain = results[VOICES]["gain"]
        between = f"{gain['mean']:.1%} ({gain['least']:.1%} to {gain['most']:.1%})"
        rows["two real faces: share of the map that the voice moves"] = between
    for video, steadiness in results[STABILITY]["videos"].items():
        for what in ("change", "flicker"):
            rows[f"{video}: {what} from frame to frame"] = f"{steadiness[what]:.1%}"
    for (kind, form), delay in _delays(results).items():
        rows[f"delay of the map after: {kind}, {form}"] = "" if delay is None else f"{delay} ms"
    rows["live, each frame encoded once"] = f"{results[LIVE]['rows'][0]['maps_per_second']:.1f} maps/s"
    return rows


def _figure(result: dict[str, Any], group: str, of: str, metric: str = "cc") -> str:
    """A mean, with its interval where there is one; empty where nothing was measured."""
    value = result["scores"][group].get(of, {}).get(metric)
    return _score(value, result.get("intervals", {}).get(group, {}).get(of, {}).get(metric, ()))


def _score(value: float | None, ends: Sequence[float | None] = ()) -> str:
    if value is None:
        return ""
    known = [f"{end:.3f}" for end in ends if end is not None]
    return f"{value:.3f}" + (f" ({known[0]} to {known[1]})" if len(known) == 2 else "")


def _delays(results: dict[str, Any]) -> dict[tuple[str, str], int | None]:
    """Milliseconds by kind of event and form, None where the maps say nothing; integers, of which none is -0."""
    rows = results[DELAY]["rows"]
    return {(row["kind"], row["form"]): None if row["delay_ms"] is None else round(row["delay_ms"]) for row in rows}


def table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Both editions' figures as Markdown; each argument is the JSON of `FILES` and `LATER` by name."""
    first = figures(before)
    lines = ["| | first weights | these weights |", "|---|---|---|"]
    lines += [f"| {name} | {first.get(name, '')} | {figure} |" for name, figure in figures(after).items()]
    lines += ["", f"Measured on {_machine(before)} (first weights) and {_machine(after)} (these weights)."]
    return "\n".join(lines) + "\n"


def summary(results: dict[str, Any]) -> str:
    """One edition's main figures as Markdown, for the README."""
    osie = results[OSIE]["scores"]["all"]["model"]
    scores = f"CC {osie['cc']:.3f}, NSS {osie['nss']:.2f}, SIM {osie['sim']:.3f}, AUC-Judd {osie['auc_judd']:.3f}"
    delays = {kind: _delays(results)[kind, "file"] for kind in ("jump", "appear", "cut")}
    late = ", ".join("says nothing" if ms is None else f"{ms} ms ({kind})" for kind, ms in delays.items())
    live = results[LIVE]["rows"][0]
    rate = f"{live['maps_per_second']:.1f} maps/s, {live['of_real_time']:.2f} times real time"
    unseen = f"human gaze on {results[OSIE]['items']} photographs that it never saw (OSIE)"
    rows = [
        (unseen, scores),
        ("delay of the map after something jumps, appears, or is cut to", late),
        (f"a 720p video with sound, on {_machine(results)}", rate),
    ]
    return "\n".join(markdown_table(("`lite`", "measured"), rows)) + "\n"


def training_curve(recorded: dict[str, Any]) -> "Figure":
    """The loss of each stage against its steps, a panel each.

    Args:
        recorded: what `dtfsal train-lite` writes as FILE.curve.json: means over ten steps.
    """
    stages = list(dict.fromkeys(point["stage"] for point in recorded["curve"]))
    with new_figure(width=9.0, height=2.8, columns=len(stages)) as (figure, axes):
        for panel, stage in zip(axes, stages, strict=True):
            points = [point for point in recorded["curve"] if point["stage"] == stage]
            panel.plot([point["step"] for point in points], [point["loss"] for point in points])
            panel.set_title(f"stage {stage!r}")
            panel.set_xlabel("step")
        axes[0].set_ylabel("loss, KL - CC (mean of 10 steps)")
    return figure


def _machine(results: dict[str, Any]) -> str:
    host = results[LIVE]["machine"]
    return f"{host['cpu']}, {host['cores']} cores, {host['date']}"


def read_results(folder: Path) -> dict[str, Any]:
    """The JSON of `FILES` in a folder, and of `LATER` as far as it is there.

    Raises:
        OSError: a file is missing.
        ValueError: a file is no JSON.
    """
    there = [name for name in LATER if (folder / name).is_file()]
    return {name: json.loads((folder / name).read_text()) for name in (*FILES, *there)}


def main(arguments: Sequence[str]) -> int:
    """Write the table; 1 where a result is missing or damaged."""
    parser = argparse.ArgumentParser(prog="python -m dtfsal.benchmarks.editions", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--summary", type=Path, help="where AFTER's main figures go, for the README")
    parser.add_argument(
        "--curve",
        type=Path,
        nargs=2,
        metavar=("JSON", "PNG"),
        help="the loss curve of the training, and the picture to draw of it",
    )
    args = parser.parse_args(arguments)
    try:
        before, after = read_results(args.before), read_results(args.after)
        args.output.write_text(table(before, after))
        if args.summary is not None:
            args.summary.write_text(summary(after))
        if args.curve is not None:
            save(training_curve(json.loads(args.curve[0].read_text())), args.curve[1], source=args.curve[0].name)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}: run `dtfsal benchmark refresh` first\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
