"""Ctrl-C and SIGTERM, at moments when Python itself would lose them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from dtfsal.runtime.cli import main
from dtfsal.runtime.cli._interruption import Interruption, check_interruption

PROGRAM = [sys.executable, "-c", "import sys; from dtfsal.runtime.cli import main; sys.exit(main())"]


class Thing:
    """What weak references can point to."""


@contextlib.contextmanager
def interrupted():
    """A block that ends with KeyboardInterrupt."""
    with pytest.raises(KeyboardInterrupt):
        yield


def spin(seconds):
    """Work in Python, so that a signal is noticed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_become_keyboard_interrupts(number):
    interruption = Interruption()
    with interrupted(), interruption.handled():
        signal.raise_signal(number)
        spin(5)
    assert interruption.requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_lost_in_a_callback_comes_again(number):
    """Python drops what is raised in a weak reference's callback, and says so to sys.unraisablehook."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    survived = False
    with interrupted(), Interruption().handled():
        del thing
        survived = True
        spin(5)
    assert survived
    assert reference() is None


def test_an_interrupt_that_is_swallowed_is_raised_at_the_next_step():
    with Interruption().handled():
        check_interruption()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            spin(5)
        with pytest.raises(KeyboardInterrupt):
            check_interruption()
    check_interruption()


def test_a_second_ctrl_c_does_not_disturb_the_clearing_up():
    cleared = False
    with interrupted(), Interruption().handled():
        try:
            signal.raise_signal(signal.SIGINT)
            spin(5)
        finally:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
                spin(0.01)
            cleared = True
    assert cleared


def test_after_a_while_ctrl_c_counts_again(monkeypatch):
    """Else a run that swallowed the first one could not be stopped."""
    monkeypatch.setattr("dtfsal.runtime.cli._interruption._PATIENCE_SECONDS", 0.05)
    with Interruption().handled():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            spin(0.06)


def test_other_dropped_exceptions_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    thing = Thing()
    reference = weakref.ref(thing, lambda _: 1 / 0)
    with Interruption().handled():
        del thing
    assert reference() is None
    assert told == [ZeroDivisionError]


def test_handlers_and_hook_are_put_back():
    state = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook]
    with Interruption().handled():
        pass
    with contextlib.suppress(KeyboardInterrupt), Interruption().handled():
        signal.raise_signal(signal.SIGINT)
        spin(5)
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook] == state


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interruption = Interruption()
        with interruption.handled():
            signal.raise_signal(signal.SIGINT)
        assert not interruption.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_the_command_line_works_without_signals(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join(20)
    assert codes == [0]


def test_an_error_made_of_an_interrupt_is_reported_as_one(capsys, monkeypatch):
    """Importing an extension module turns Ctrl-C into an ImportError."""

    def dispatch(_arguments):
        try:
            signal.raise_signal(signal.SIGINT)
            spin(5)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr("dtfsal.runtime.cli._dispatch", dispatch)
    assert main(["anything"]) == 130
    assert capsys.readouterr().err == "dtfsal: error: interrupted; no unfinished output is left\n"


def test_an_impatient_user_leaves_no_file_and_sees_one_line(toy_visual_engine, make_toy_clip, tmp_path):
    """Ctrl-C many times in a row, up to the end of the process."""
    folder = tmp_path / "out"
    folder.mkdir()
    outputs = [
        str(argument) for name in ("out.mp4", "out.npz", "frames", "out.h5") for argument in ("-o", folder / name)
    ]
    process = subprocess.Popen(
        [*PROGRAM, "predict", make_toy_clip(count=3000, size=(120, 160)), "-e", toy_visual_engine, *outputs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not any(file.name == "000005.png" for file in folder.glob(".*/*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert (out, err) == ("", "dtfsal: error: interrupted; no unfinished output is left\n")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="closes a file descriptor of the child")
def test_without_a_stdout_the_command_line_works(toy_engine):
    command = 'exec "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *PROGRAM, "info", str(toy_engine)], stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
