"""Two editions of `lite` side by side: `python -m dtfsal.benchmarks.editions BEFORE AFTER -o TABLE.md`.

BEFORE and AFTER are folders of results, as `dtfsal benchmark refresh` writes them. The table takes its figures from
their JSON: gaze on photographs, synthetic scenes, steadiness on real clips, delay, and the live rate.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

OSIE, SYNTHETIC = "lite-osie/scores.json", "lite-synthetic/scores.json"
STABILITY, DELAY, LIVE = "stability-lite.json", "delay-lite.json", "live-lite-cpu.json"
FILES = (OSIE, SYNTHETIC, STABILITY, DELAY, LIVE)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row: what is compared, where its JSON is, and how the number is read and shown."""

    name: str
    file: str
    read: Callable[[Any], float | None]
    form: str = "{:.3f}"

    def shown(self, results: dict[str, Any]) -> str:
        """The figure of one edition; empty where its results do not have it."""
        try:
            value = self.read(results[self.file])
        except (KeyError, StopIteration):
            return ""
        return "" if value is None else self.form.format(value)


def figures(results: dict[str, Any]) -> Iterator[Figure]:
    """The rows that these results can fill, in the order of the table."""
    for metric, name in (("cc", "CC"), ("nss", "NSS"), ("sim", "SIM"), ("kl", "KL"), ("auc_judd", "AUC-Judd")):
        yield Figure(f"OSIE, {name}", OSIE, _score("all", "model", metric))
    yield Figure("OSIE with any sound, CC", OSIE, _score("all", "model, any sound", "cc"))
    for kind in results[SYNTHETIC]["scores"]:
        yield Figure(f"scenes, {kind}: CC", SYNTHETIC, _score(kind, "model", "cc"))
        if kind in ("sound_decides", "speakers"):
            yield Figure(f"scenes, {kind}: CC with sound less CC muted", SYNTHETIC, _gain(kind))
    for video in results[STABILITY]["videos"]:
        for what in ("change", "flicker"):
            yield Figure(f"{video}: {what} from frame to frame", STABILITY, _steadiness(video, what), "{:.1%}")
    for row in results[DELAY]["rows"]:
        name = f"delay of the map after: {row['kind']}, {row['form']}"
        yield Figure(name, DELAY, _delay(row["kind"], row["form"]), "{:.0f} ms")
    yield Figure(
        "live, each frame encoded once", LIVE, lambda live: live["rows"][0]["maps_per_second"], "{:.1f} maps/s"
    )


def _score(kind: str, of: str, metric: str) -> Callable[[Any], float | None]:
    return lambda scores: scores["scores"][kind][of][metric]


def _gain(kind: str) -> Callable[[Any], float | None]:
    def read(scores: Any) -> float | None:
        heard, muted = (scores["scores"][kind][of]["cc"] for of in ("model", "model, muted"))
        return None if heard is None or muted is None else heard - muted

    return read


def _steadiness(video: str, what: str) -> Callable[[Any], float | None]:
    return lambda stability: stability["videos"][video][what]


def _delay(kind: str, form: str) -> Callable[[Any], float | None]:
    def read(delay: Any) -> float | None:
        row = next(row for row in delay["rows"] if (row["kind"], row["form"]) == (kind, form))
        # Rounded first: a table should not show -0 ms.
        return None if row["delay_ms"] is None else round(row["delay_ms"])

    return read


def table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Both editions' figures as Markdown; each argument is the JSON of `FILES` by name."""
    lines = ["| | first weights | these weights |", "|---|---|---|"]
    lines += [f"| {row.name} | {row.shown(before)} | {row.shown(after)} |" for row in figures(after)]
    lines += ["", f"Measured on {_machine(before)} (first weights) and {_machine(after)} (these weights)."]
    return "\n".join(lines) + "\n"


def summary(results: dict[str, Any]) -> str:
    """One edition's main figures as Markdown, for the README."""
    osie = results[OSIE]["scores"]["all"]["model"]
    scores = f"CC {osie['cc']:.3f}, NSS {osie['nss']:.2f}, SIM {osie['sim']:.3f}, AUC-Judd {osie['auc_judd']:.3f}"
    delays = {kind: _delay(kind, "file")(results[DELAY]) for kind in ("jump", "appear", "cut")}
    late = ", ".join("says nothing" if ms is None else f"{ms:.0f} ms ({kind})" for kind, ms in delays.items())
    live = results[LIVE]["rows"][0]
    rate = f"{live['maps_per_second']:.1f} maps/s, {live['of_real_time']:.2f} times real time"
    rows = {
        f"human gaze on {results[OSIE]['items']} photographs that it never saw (OSIE)": scores,
        "delay of the map after something jumps, appears, or is cut to": late,
        f"a 720p video with sound, on {_machine(results)}": rate,
    }
    return (
        "\n".join(["| `lite` | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
        + "\n"
    )


def _machine(results: dict[str, Any]) -> str:
    host = results[LIVE]["machine"]
    return f"{host['cpu']}, {host['cores']} cores, {host['date']}"


def read_results(folder: Path) -> dict[str, Any]:
    """The JSON of `FILES` in a folder.

    Raises:
        OSError: a file is missing.
        ValueError: a file is no JSON.
    """
    return {name: json.loads((folder / name).read_text()) for name in FILES}


def main(arguments: Sequence[str]) -> int:
    """Write the table; 1 where a result is missing or damaged."""
    parser = argparse.ArgumentParser(prog="python -m dtfsal.benchmarks.editions", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--summary", type=Path, help="where AFTER's main figures go, for the README")
    args = parser.parse_args(arguments)
    try:
        before, after = read_results(args.before), read_results(args.after)
        args.output.write_text(table(before, after))
        if args.summary is not None:
            args.summary.write_text(summary(after))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}: run `dtfsal benchmark refresh` first\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
