"""Lines in the log: not too many."""

import logging

import edge.bounded_log
from edge.bounded_log import AGAIN, LINES, REMEMBERED, BoundedLog, SeldomLog


def test_the_log_is_bounded_and_says_what_it_left_out(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(edge.bounded_log.time, "monotonic", lambda: now[0])
    write = BoundedLog(logging.getLogger("edge"), "commands")
    for number in range(500):
        write(logging.WARNING, f"line {number}")
    assert len(caplog.records) == LINES
    now[0] += 60
    write(logging.WARNING, "the next minute")
    assert [record.getMessage() for record in caplog.records[LINES:]] == [
        f"commands: {500 - LINES} more lines left out",
        "commands: the next minute",
    ]


def test_a_line_comes_again_after_a_while_only(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(edge.bounded_log.time, "monotonic", lambda: now[0])
    write = SeldomLog(logging.getLogger("edge"))
    for line in ("a", "b", "a"):
        write(line)
    now[0] += AGAIN - 1
    write("b")
    now[0] += 1
    write("a")
    assert [record.getMessage() for record in caplog.records] == ["a", "b", "a"]
    for number in range(2 * REMEMBERED):
        write(str(number))
    assert len(write._said) == REMEMBERED
