"""How far a stream is behind."""

import pytest

from edge.sources.lag import WINDOW, StreamLag


def test_least_distance_of_both_clocks_is_no_lag():
    lag = StreamLag()
    assert lag.seconds(1000.0, 5.0) == 0
    assert lag.seconds(1000.3, 5.1) == pytest.approx(0.2)
    assert lag.seconds(1000.3, 5.4) == pytest.approx(0)
    assert lag.seconds(1002.0, 5.5) == pytest.approx(1.6)


@pytest.mark.parametrize("drift", [1e-3, -1e-3])
def test_drift_of_a_clock_is_no_lag(drift):
    """A second in a quarter of an hour is more than any camera drifts."""
    lag = StreamLag()
    most = max(lag.seconds(second, second * (1 - drift)) for second in range(0, 20_000, 2))
    assert most <= 2 * WINDOW * abs(drift) + 0.01


def test_lag_that_lasts_is_seen_for_minutes():
    lag = StreamLag()
    for second in range(600):
        lag.seconds(second, second)
    behind = [lag.seconds(second, second - 2) for second in range(600, 1400)]
    assert all(value == pytest.approx(2) for value in behind[: int(WINDOW)])
    assert behind[-1] == 0, "then it counts as a step of the clock"
