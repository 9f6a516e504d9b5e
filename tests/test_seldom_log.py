"""Warnings that are not repeated."""

import logging

import edge.seldom_log
from edge.seldom_log import AGAIN, REMEMBERED, SeldomLog


def test_a_line_comes_again_after_a_while_only(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(edge.seldom_log.time, "monotonic", lambda: now[0])
    write = SeldomLog(logging.getLogger("edge"))
    for line in ("a", "b", "a"):
        write(line)
    now[0] += AGAIN - 1
    write("b")
    now[0] += 1
    write("a")
    assert [record.getMessage() for record in caplog.records] == ["a", "b", "a"]
    for line in ("c", "d"):
        write(line, cause="one")
    assert caplog.records[-1].getMessage() == "c"
    for number in range(2 * REMEMBERED):
        write(str(number))
    assert len(write._said) == REMEMBERED
