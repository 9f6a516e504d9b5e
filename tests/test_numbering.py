"""The numbers of events."""

from hypothesis import given
from hypothesis import strategies as st

from edge.numbering import Numbering

CAMERAS = st.lists(st.sampled_from("abc"), max_size=20)


@given(st.lists(st.tuples(CAMERAS, st.booleans()), min_size=1, max_size=5))
def test_epoch_and_number_never_go_back_whether_or_not_runs_end_in_order(runs):
    meta = {}
    last = {}
    for cameras, in_order in runs:
        numbering = Numbering()
        numbering.begin(meta)
        meta = {**meta, **numbering.begun()}
        for camera in cameras:
            now = numbering.epoch, numbering.next(camera)
            assert now > last.get(camera, (0, 0))
            last[camera] = now
        if in_order:
            meta = {**meta, **numbering.ended()}


def test_a_run_that_ended_in_order_is_gone_on_with():
    numbering = Numbering()
    numbering.begin({"epoch": 5, "closed": True, "numbers": {"a": 7}})
    assert (numbering.epoch, numbering.next("a"), numbering.next("b")) == (5, 8, 1)


def test_an_epoch_is_later_than_one_of_a_clock_that_was_ahead():
    numbering = Numbering()
    ahead = numbering.epoch + 10_000
    numbering.begin({"epoch": ahead, "closed": False, "numbers": {}})
    assert numbering.epoch == ahead + 1


def test_once_numbers_were_given_out_the_epoch_stays():
    numbering = Numbering()
    epoch = numbering.epoch
    numbering.next("a")
    numbering.begin({"epoch": epoch + 10_000, "closed": True, "numbers": {"a": 3}})
    assert (numbering.epoch, numbering.next("a")) == (epoch, 2)


def test_a_damaged_note_of_the_epoch_is_none():
    numbering = Numbering()
    epoch = numbering.epoch
    numbering.begin({"epoch": "5", "closed": True, "numbers": []})
    assert numbering.epoch == epoch
