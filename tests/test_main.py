"""Where the command begins: streams that are closed, a broken installation, Ctrl-C."""

import errno
import os
import signal
import sys

import pytest

import edge.__main__
import edge.cli
from edge.__main__ import main, open_standard_streams
from edge.settings import SettingsError


def test_it_runs_the_command(monkeypatch):
    called = []
    monkeypatch.setattr("edge.cli.main", lambda: called.append(1))
    main()
    assert called == [1]


def test_a_package_that_cannot_be_imported_is_told_with_its_remedy(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "edge.cli", None)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("emotion-edge cannot start: ")
    assert any(line.startswith("failure  opencv: cannot be imported") and "→ pip install" in line for line in others)


def test_ctrl_c_is_no_failure(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("edge.cli.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


@pytest.mark.parametrize(("words", "survives"), [(["run", "--demo"], True), (["watch"], False)])
def test_a_hangup_ends_no_daemon_that_is_being_loaded(monkeypatch, words, survives):
    monkeypatch.setattr("edge.cli.main", lambda: None)
    monkeypatch.setattr(sys, "argv", ["emotion-edge", *words])
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        main()
        assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == survives
    finally:
        signal.signal(signal.SIGHUP, before)


def test_only_streams_that_are_closed_are_opened(monkeypatch):
    opened = []
    fstat = os.fstat

    def closed(number):
        if number == 1:
            raise OSError(errno.EBADF, "closed")
        return fstat(number)

    streams = sys.stdin, sys.stdout, sys.stderr
    monkeypatch.setattr(edge.__main__.os, "open", lambda path, _flags: opened.append(path))
    open_standard_streams()
    assert (sys.stdin, sys.stdout, sys.stderr) == streams
    assert opened == []
    monkeypatch.setattr(edge.__main__.os, "fstat", closed)
    monkeypatch.setattr(edge.__main__.os, "fdopen", lambda number, mode, **_: (number, mode))
    monkeypatch.setattr(sys, "stdout", None)
    open_standard_streams()
    assert opened == [os.devnull]
    assert sys.stdout == (1, "w")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SettingsError("edge.yaml:1: a\x1b[2J: wrong\nedge.yaml:2: b: wrong"), r"a\x1b[2J: wrong"),
        (OSError(errno.ENOSPC, "No space left on device"), "the output cannot be written: No space left on device"),
    ],
)
def test_what_a_user_can_mend_is_said_in_lines(monkeypatch, capsys, error, says):
    def failing():
        raise error

    monkeypatch.setattr("edge.cli.cli", failing)
    monkeypatch.setattr("edge.cli._print_nowhere", lambda: None)
    with pytest.raises(SystemExit) as ended:
        edge.cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == len(str(error).splitlines())


def test_a_mistake_of_ours_is_no_line_but_a_traceback(monkeypatch):
    def failing():
        raise OSError(errno.ENOENT, "gone")

    monkeypatch.setattr("edge.cli.cli", failing)
    with pytest.raises(OSError, match="gone"):
        edge.cli.main()
