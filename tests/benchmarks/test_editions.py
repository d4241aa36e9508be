"""Two editions of lite side by side, from results that are written out by hand."""

import json

import pytest

from dtfsal.benchmarks.editions import ACTION, CROWD, FILES, SCENE, VOICES, main, training_curve


def results(scale):
    def scores(cc):
        return {"cc": cc * scale, "nss": 2 * scale, "sim": 0.5 * scale, "kl": 1.0, "auc_judd": 0.9}

    of = {"model": scores(0.8), "model, any sound": scores(0.7), "model, muted": scores(0.5)}
    osie, synthetic, stability, delay, live = FILES
    return {
        osie: {"scores": {"all": of}, "items": 7},
        synthetic: {"scores": {"all": of, "sound_decides": of}},
        stability: {"videos": {"a.mp4": {"change": 0.05 * scale, "flicker": 0.02}}},
        delay: {
            "rows": [
                {"kind": kind, "form": "file", "delay_ms": -0.3 if scale == 1 else 240.4}
                for kind in ("jump", "appear", "cut")
            ]
        },
        live: {
            "rows": [{"maps_per_second": 14.04 * scale, "of_real_time": 0.5616 * scale}],
            "machine": {"cpu": "X", "cores": 2, "date": "2026-01-02"},
        },
    }


def write(folder, of):
    for name, value in of.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))


def test_both_editions_stand_side_by_side(tmp_path):
    write(tmp_path / "before", results(0.5))
    write(tmp_path / "after", results(1))
    target = tmp_path / "table.md"
    assert main([str(tmp_path / "before"), str(tmp_path / "after"), "-o", str(target)]) == 0
    rows = dict(line.strip("| ").split(" | ", 1) for line in target.read_text().splitlines() if line.startswith("| "))
    assert rows["OSIE, CC"] == "0.400 | 0.800"
    assert rows["OSIE with any sound, CC"] == "0.350 | 0.700"
    assert rows["scenes, sound_decides: CC with sound less CC muted"] == "0.150 | 0.300"
    assert rows["a.mp4: change from frame to frame"] == "2.5% | 5.0%"
    assert rows["delay of the map after: jump, file"] == "240 ms | 0 ms"
    assert rows["live, each frame encoded once"] == "7.0 maps/s | 14.0 maps/s"


def test_later_results_have_rows_with_intervals_once_they_are_there(tmp_path):
    before, after = results(0.5), results(1)
    of = {name: {"cc": 0.6, "nss": 1.5} for name in ("model", "gaze prior", "half of the observers", "centre")}
    ends = {name: {"cc": [0.5, 0.7], "nss": [None, None]} for name in of}
    for name in (CROWD, SCENE, ACTION):
        after[name] = {"scores": {"all": of}, "intervals": {"all": ends}}
    del after[SCENE]
    after[VOICES] = {"gain": {"mean": 0.0914, "least": 0.07, "most": 0.125}}
    sound = after[FILES[1]]
    sound["gains"] = {"sound_decides": {"model, muted": {"cc": [0.3, 0.1, 0.4]}}}
    write(tmp_path / "before", before)
    write(tmp_path / "after", after)
    target = tmp_path / "table.md"
    assert main([str(tmp_path / "before"), str(tmp_path / "after"), "-o", str(target)]) == 0
    lines = target.read_text().splitlines()
    assert "| Crowd, CC |  | 0.600 (0.500 to 0.700) |" in lines
    assert "| Crowd, NSS |  | 1.500 |" in lines
    assert "| Crowd, ceiling (half of the observers predict the other half), CC |  | 0.600 (0.500 to 0.700) |" in lines
    assert "| two real faces: share of the map that the voice moves |  | 9.1% (7.0% to 12.5%) |" in lines
    assert "| scenes of action, centre: CC |  | 0.600 (0.500 to 0.700) |" in lines
    assert "| scenes of action, frame difference: CC |  |  |" in lines
    assert "| scenes, sound_decides: CC with sound less CC muted | 0.150 | 0.300 (0.100 to 0.400) |" in lines
    assert not any(line.startswith("| Scene") for line in lines)


def test_what_an_edition_lacks_is_left_empty(tmp_path):
    before = results(0.5)
    before[FILES[3]]["rows"] = []
    del before[FILES[1]]["scores"]["sound_decides"]
    write(tmp_path / "before", before)
    write(tmp_path / "after", results(1))
    target = tmp_path / "table.md"
    assert main([str(tmp_path / "before"), str(tmp_path / "after"), "-o", str(target)]) == 0
    assert "| delay of the map after: jump, file |  | 0 ms |" in target.read_text()
    assert "| scenes, sound_decides: CC |  | 0.800 |" in target.read_text()


def test_the_summary_has_the_main_figures(tmp_path):
    write(tmp_path / "r", results(1))
    target = tmp_path / "summary.md"
    folder = str(tmp_path / "r")
    assert main([folder, folder, "-o", str(tmp_path / "table.md"), "--summary", str(target)]) == 0
    text = target.read_text()
    assert (
        "| human gaze on 7 photographs that it never saw (OSIE) | CC 0.800, NSS 2.00, SIM 0.500, AUC-Judd 0.900 |"
        in text
    )
    assert "0 ms (jump), 0 ms (appear), 0 ms (cut)" in text
    assert "| a 720p video with sound, on X, 2 cores, 2026-01-02 | 14.0 maps/s, 0.56 times real time |" in text


@pytest.mark.parametrize("damage", ["missing", "no JSON"])
def test_a_missing_or_damaged_result_is_one_line(tmp_path, capsys, damage):
    write(tmp_path / "r", results(1))
    broken = tmp_path / "r" / FILES[2]
    broken.unlink() if damage == "missing" else broken.write_text("{")
    assert main([str(tmp_path / "r"), str(tmp_path / "r"), "-o", str(tmp_path / "t.md")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "t.md").exists()


def test_each_stage_has_its_curve(tmp_path):
    curve = [{"stage": stage, "step": step, "loss": step / 10, "seconds": 1} for stage in "ab" for step in (10, 20)]
    figure = training_curve({"curve": curve})
    lines = [panel.lines[0].get_xydata().tolist() for panel in figure.axes]
    assert lines == [[[10, 1.0], [20, 2.0]]] * 2
    assert [panel.get_title() for panel in figure.axes] == ["stage 'a'", "stage 'b'"]
    write(tmp_path, results(1))
    (tmp_path / "c.json").write_text(json.dumps({"curve": curve}))
    asked = [str(tmp_path), str(tmp_path), "-o", str(tmp_path / "t.md"), "--curve", str(tmp_path / "c.json")]
    assert main([*asked, str(tmp_path / "c.png")]) == 0
    assert (tmp_path / "c.png").stat().st_size > 1000
