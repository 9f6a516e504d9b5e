"""The short form of `make faults`: every bar that is not about the machine's speed holds."""

from unittest.mock import MagicMock

import pytest
from click.testing import CliRunner

import tests.daemon_faults
import tests.faults
from tests.faults import FAULTS
from tests.parts.delivery import compare
from tests.parts.reporting import PLACES
from tests.parts.rows import Row


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_bar_holds(fault, tmp_path, figure):
    rows = list(fault(tmp_path, True))
    for row in rows:
        figure(f"{row.fault}: {row.figure}")
    assert not [row for row in rows if row.short and not row.speed]


def test_what_was_not_tried_is_neither_held_nor_short(monkeypatch):
    for row, code, begins in (
        (Row("fault", "not tried", "bar", held=False, tried=False), 0, "-----"),
        (Row("fault", "figure", "bar", held=False), 1, "SHORT"),
        (Row("fault", "figure", "bar", held=True), 0, "held "),
    ):
        monkeypatch.setattr(tests.faults, "FAULTS", (lambda _folder, _short, row=row: iter([row]),))
        done = CliRunner().invoke(tests.faults.main, [])
        assert done.exit_code == code
        assert done.stdout.startswith(begins)


def test_only_what_is_named_is_tried(monkeypatch):
    def one(_folder, short):
        yield Row("one", f"short: {short}", "bar", held=True)

    def other(_folder, _short):
        yield Row("other", "figure", "bar", held=True)

    monkeypatch.setattr(tests.faults, "FAULTS", (one, other))
    done = CliRunner().invoke(tests.faults.main, ["--short", "one"])
    assert (done.exit_code, done.stdout) == (0, "held   one: short: True (bar: bar)\n")
    done = CliRunner().invoke(tests.faults.main, ["one", "others"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no others; there are one, other" in done.stderr


def _event(number, kind, face, seq=None):
    return {"id": f"{number}", "epoch": 1, "seq": seq or number, "type": kind, "face": {"id": face}}


def test_a_second_end_of_a_face_is_seen_and_one_that_comes_twice_is_none():
    events = [_event(1, "start", "a"), _event(2, "end", "a"), _event(2, "end", "a"), _event(3, "start", "b")]
    ids = {event["id"] for event in events}
    outcome = compare(ids, ids, events, 0)
    assert (outcome.doubled, outcome.unended, outcome.ended_again, outcome.faces_held) == (1, 1, 0, False)
    assert compare(ids, ids, [*events, _event(4, "end", "b")], 0).faces_held
    outcome = compare(ids, ids, [*events, _event(4, "end", "b"), _event(5, "end", "a", 2)], 0)
    assert (outcome.unended, outcome.ended_again, outcome.disordered, outcome.faces_held) == (0, 1, 1, False)


@pytest.mark.parametrize("missed", [None, *PLACES])
def test_a_place_at_which_no_daemon_was_killed_is_not_held(missed, monkeypatch, tmp_path):
    run = MagicMock()
    run.__enter__.return_value = run
    run.outcome.return_value = compare(set(), set(), [], 0)
    run.daemon.outbox = tmp_path / "outbox.db"
    run.daemon.ids.return_value = []
    monkeypatch.setattr(tests.daemon_faults, "Delivery", lambda *_, **__: run)
    monkeypatch.setattr(tests.daemon_faults, "_lost_before_commit", lambda *_: [])
    monkeypatch.setattr(tests.daemon_faults, "_kill", lambda _run, place, *_: "anywhere" if place == missed else place)
    row, _ = tests.daemon_faults.daemon_killed(tmp_path, True)
    assert row.held == (missed is None)
