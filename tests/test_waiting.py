"""The messages that wait in memory."""

from hypothesis import given
from hypothesis import strategies as st

from edge.store import Message
from edge.waiting import Entry, Waiting

SIZES = st.lists(st.integers(0, 50), max_size=30)


def entry(number, size=10, kind="event", row=None):
    return Entry(Message(str(number), "door", kind, bytes(size)), float(number), row)


def filled(sizes, ready=0):
    """Return messages of these sizes, so many of them ready."""
    waiting = Waiting()
    for number, size in enumerate(sizes[:ready]):
        waiting.add(entry(number, size))
    waiting.promote()
    for number, size in enumerate(sizes[ready:], ready):
        waiting.add(entry(number, size))
    return waiting


def counted(waiting):
    return waiting.count, waiting.bytes


def recounted(waiting):
    found = counted(waiting)
    waiting.recount()
    again = counted(waiting)
    waiting.count, waiting.bytes = found
    return again


@given(SIZES, st.integers(0, 30), st.integers(0, 600))
def test_cut_leaves_the_newest_that_fit(sizes, ready, most):
    waiting = filled(sizes, ready)
    came_in = list(waiting.incoming)
    cut = waiting.cut_incoming(most)
    assert waiting.incoming == came_in[cut:]
    assert sum(each.message.size for each in waiting.incoming) <= most
    assert not cut or sum(each.message.size for each in came_in[cut - 1 :]) > most
    assert counted(waiting) == recounted(waiting)


@given(SIZES, st.integers(0, 600), st.sets(st.integers(0, 29)))
def test_the_oldest_go_first_and_none_that_is_under_way(sizes, most, offered):
    waiting = filled(sizes, len(sizes))
    for number in offered & set(range(len(sizes))):
        waiting.ready[str(number)].offered = True
    before = list(waiting.ready.values())
    popped = waiting.pop_oldest(waiting.ready.values(), lambda _: waiting.bytes > most)
    assert popped == [each for each in before if not each.offered][: len(popped)]
    assert not popped or waiting.bytes + popped[-1].message.size > most
    assert waiting.bytes <= most or all(each.offered for each in waiting.ready.values())
    assert counted(waiting) == recounted(waiting)


@given(SIZES, st.integers(0, 30))
def test_messages_are_offered_in_order_each_once_until_withdrawn(sizes, ready):
    waiting = filled(sizes, ready)
    waiting.promote()

    def offered():
        found = []
        while each := waiting.next():
            each.offered = True
            found.append(each.message.id)
        return found

    everything = [str(number) for number in range(len(sizes))]
    assert offered() == everything
    assert offered() == []
    waiting.withdraw()
    assert offered() == everything


def test_what_is_in_the_file_only_counts_until_all_is_in_memory():
    waiting = filled([10, 20], 1)
    waiting.change(3, 300)
    assert counted(waiting) == (5, 330)
    waiting.recount()
    assert counted(waiting) == (2, 30)


def test_events_are_taken_out_and_other_messages_stay():
    waiting = Waiting()
    for number, kind in enumerate(["event", "summary", "event", "summary"]):
        waiting.add(entry(number, kind=kind))
        if number == 1:
            waiting.promote()
    waiting.remove_events()
    assert [*waiting.ready, *(each.message.id for each in waiting.incoming)] == ["1", "3"]
    assert counted(waiting) == (2, 20)


def test_lost_is_what_has_no_row():
    waiting = Waiting()
    waiting.ready = {"1": entry(1, row=7), "2": entry(2)}
    waiting.writing, waiting.incoming = [entry(3)], [entry(4)]
    assert waiting.lost() == 3
    assert [each.message.id for each in waiting.unwritten()] == ["2"]
    assert waiting.oldest().message.id == "1"
    assert waiting.pop("5") is None
