"""Reading ahead: in order, bounded, and without leaving threads behind."""

import threading

import pytest

from janus_cli.ahead import ITEMS, read_ahead


def test_items_come_in_the_order_of_their_sources():
    def read(count):
        yield from range(count)

    told = list(read_ahead([3, 0, 7, 1], read))
    assert told == [(count, item) for count in (3, 0, 7, 1) for item in range(count)]


def test_several_sources_are_read_at_a_time():
    together = threading.Barrier(3, timeout=30)

    def read(source):
        together.wait()  # passes only if three are here at once
        yield source

    assert [item for _, item in read_ahead("abcdef", read, at_once=3)] == list("abcdef")


def test_a_source_is_not_read_further_than_there_is_room():
    read_until = []

    def read(_):
        for number in range(100):
            read_until.append(number)
            yield number

    items = read_ahead(["a"], read)
    next(items)
    assert len(read_until) <= ITEMS + 3  # those waiting, one taken, one in hand, one being made
    assert [item for _, item in items] == list(range(1, 100))


def test_sources_are_asked_for_as_they_are_needed():
    asked = []

    def sources():
        for number in range(100):
            asked.append(number)
            yield number

    items = read_ahead(sources(), lambda number: iter([number]), at_once=2)
    next(items)
    assert asked == [0, 1]


def test_an_error_comes_in_its_place():
    def read(source):
        yield source
        if source == "b":
            raise ValueError("broken")

    told = []
    with pytest.raises(ValueError, match="broken"):
        for source, _ in read_ahead("abc", read):
            told.append(source)
    assert told == ["a", "b"]


def test_leaving_early_ends_every_thread():
    before = set(threading.enumerate())

    def read(source):
        while True:
            yield source

    items = read_ahead("abc", read)
    assert next(items) == ("a", "a")
    started = set(threading.enumerate()) - before
    items.close()
    for thread in started:
        thread.join(30)
    assert started and not any(thread.is_alive() for thread in started)
