"""Requests and events that go through a line of JSON come out as they were."""

import io
from dataclasses import asdict

import pytest

from janus_cli import wire
from janus_cli.errors import InputError, ModelError, UsageError
from janus_cli.schema import (
    Answer,
    Failure,
    ImagineRequest,
    Origin,
    Picture,
    Piece,
    Progress,
    Turn,
    UnderstandRequest,
    Wish,
)

VALUES = [
    UnderstandRequest(
        images=("a.png", "\udcff\n.png"),
        questions=("one?", "two\u2028?"),
        history=(Turn("before?", "yes"),),
        temperature=0.5,
        seed=2**62,
        origin=Origin("/some/where", (("-", b"\x00\xff"),)),
        answered=((0, 1), (1, 3)),
    ),
    ImagineRequest((Wish("a corgi", count=3, negative="cats", drawn=(0, 2)), Wish("a star"))),
    Piece(0, None, "what?", "\x1b[31m"),
    Answer(1, "a.png", 3, "what?", "text", "model", "int4", 3, 600, 0.25),
    Picture(0, "p", 7, 1, 1, bytes(range(3)), "m", "fp32", 5.0, 1.0, 0, 1.0, None, 0.5),
    Failure(2, "a.png", "is broken", "InputError", 4),
    Progress("pictures", 1, 2, True),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_sent_is_received(value):
    stream = io.BytesIO()
    wire.send(stream, value)
    assert stream.getvalue().count(b"\n") == 1
    stream.seek(0)
    received = wire.receive(stream)
    assert received == value and type(received) is type(value)


def lines(*values):
    stream = io.BytesIO()
    for value in values:
        wire.send(stream, value)
    stream.seek(0)
    return stream


def test_events_end_where_the_end_is():
    stream = lines(*VALUES[2:], {"kind": wire.END}, VALUES[2])
    assert list(wire.events(stream)) == VALUES[2:]


def test_a_line_that_breaks_off_is_no_event():
    data = lines(VALUES[3]).getvalue()
    for length in (0, 1, len(data) - 1):
        with pytest.raises(EOFError):
            list(wire.events(io.BytesIO(data[:length])))


@pytest.mark.parametrize("kind", [UsageError, InputError, ModelError])
def test_an_error_arrives_as_what_it_was(kind):
    stream = lines(VALUES[2])
    stream.seek(0, io.SEEK_END)
    wire.send_error(stream, kind("a.png: is wrong"))
    stream.seek(0)
    events = wire.events(stream)
    assert next(events) == VALUES[2]
    with pytest.raises(kind, match=r"^a\.png: is wrong$"):
        next(events)


def test_a_defect_arrives_as_a_defect():
    stream = io.BytesIO()
    wire.send_error(stream, KeyError("x"))
    stream.seek(0)
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        list(wire.events(stream))


def test_a_request_is_checked_where_it_arrives():
    told = asdict(VALUES[0]) | {"kind": "UnderstandRequest", "questions": ["  "]}
    del told["origin"], told["history"]
    with pytest.raises(UsageError, match="QUESTION: is empty"):
        wire.receive(lines(told))
