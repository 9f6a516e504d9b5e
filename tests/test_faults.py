"""The short form of `make faults`: every bar that is not about the machine's speed holds."""

import sys

import pytest

import tests.faults
from tests.faults import FAULTS
from tests.parts.rows import Row


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_bar_holds(fault, tmp_path, figure):
    rows = list(fault(tmp_path, True))
    for row in rows:
        figure(f"{row.fault}: {row.figure}")
    assert not [row for row in rows if row.short and not row.speed]


def test_what_was_not_tried_is_neither_held_nor_short(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["faults"])
    for row, code, begins in (
        (Row("fault", "not tried", "bar", held=False, tried=False), 0, "-----"),
        (Row("fault", "figure", "bar", held=False), 1, "SHORT"),
        (Row("fault", "figure", "bar", held=True), 0, "held "),
    ):
        monkeypatch.setattr(tests.faults, "FAULTS", (lambda _folder, _short, row=row: iter([row]),))
        assert tests.faults.main() == code
        assert capsys.readouterr().out.startswith(begins)
