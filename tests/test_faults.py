"""The short form of `make faults`: every bar that is not about the machine's speed holds."""

import pytest

from tests.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_bar_holds(fault, tmp_path, figure):
    rows = list(fault(tmp_path, True))
    for row in rows:
        figure(f"{row.fault}: {row.figure}")
    assert not [row for row in rows if not row.held and not row.speed]
