"""`make soak`: that it sees what grows, and that it runs."""

import random

import pytest

from tests.soak import SAMPLES, Sample, slopes, soak


def samples(memory=0.0, descriptors=0.0, age=0.0):
    """Return samples of 8 hours that grow so much an hour, with noise and a steep beginning."""
    chance = random.Random(3)
    made = []
    for number in range(200):
        hours = 8 * number / 200
        begin = 20e6 * min(1, number / 20)
        noise = chance.gauss(0, 0.3e6)
        opened = 1 if number % 17 == 0 else 0  # a connection that is there for a moment
        made.append(
            Sample(
                hours,
                150e6 + begin + noise + memory * hours,
                40 + opened + int(descriptors * hours),
                0.05 + 0.01 * chance.random() + age * hours,
            )
        )
    return made


def held(found):
    return [slope.an_hour <= slope.bar for slope in found]


def test_what_does_not_grow_is_held():
    found = slopes(samples())
    assert held(found) == [True, True, True]
    assert str(found[0]).startswith("held   memory, MiB ")


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ({"memory": 2 * 2**20}, [False, True, True]),
        ({"descriptors": 4}, [True, False, True]),
        ({"age": 0.05}, [True, True, False]),
    ],
)
def test_what_grows_is_not(growth, expected):
    found = slopes(samples(**growth))
    assert held(found) == expected
    assert str(found[expected.index(False)]).startswith("SHORT")


def test_a_short_soak_takes_samples_of_a_daemon(tmp_path):
    taken = soak(tmp_path, 5)
    assert 3 <= len(taken) <= SAMPLES
    assert all(sample.memory > 50e6 and sample.descriptors > 10 for sample in taken)
    assert 0 < max(sample.age for sample in taken) < 5
    assert [sample.hours for sample in taken] == sorted(sample.hours for sample in taken)
