"""Slices of a request: every picture once, told in order, whatever happens to whoever does them."""

import random

import pytest

from janus_cli.errors import ModelError
from janus_cli.schema import (
    Answer,
    Failure,
    ImagineRequest,
    Origin,
    Piece,
    Progress,
    Turn,
    UnderstandRequest,
    Wish,
)
from janus_cli.slices import ATTEMPTS, LARGEST, Slice, Whole, Work


def answer(index, name, page=None):
    return Answer(index, name, page, "what?", "text", "tiny", "fp32", 1, 7, 0.5)


def do(request):
    """What is told about a request of pictures; `broken` ones fail."""
    yield Progress("pictures", 0, len(request.images), counted=True)
    for index, name in enumerate(request.images):
        if name.startswith("broken"):
            yield Failure(index, name, "cannot be read", "InputError")
        else:
            yield Piece(index, None, "what?", "te")
            yield answer(index, name)


def draw(request):
    """The wish and the seed of every picture that a request asks for."""
    return [
        (index, wish.prompt, wish.seed + i)
        for index, wish in enumerate(request.wishes)
        for i in range(wish.count)
        if i not in wish.drawn
    ]


def told_of(request):
    return [event for event in do(request) if not isinstance(event, (Piece, Progress))]


def seeing(count):
    names = [f"broken{i}" if i % 7 == 3 else f"{i}" for i in range(count)]
    return UnderstandRequest(tuple(names), ("what?",))


def test_slices_done_in_any_order_are_told_in_that_of_the_whole():
    request, chance = seeing(100), random.Random(5)
    work, under_way, told = Work(request, workers=3), [], []
    while not work.is_told():
        piece = work.take(idle=True)
        if piece is not None:
            under_way.append(piece)
        if len(under_way) == 6 or piece is None:
            done = under_way.pop(chance.randrange(len(under_way)))
            work.finish(done, list(do(work.whole.part(done))))
        told += work.tell()
    assert told == told_of(request)
    assert work.done == work.total == 100


def test_every_worker_has_something_at_once_and_at_the_end():
    work, sizes = Work(seeing(1000), workers=4), []
    while (piece := work.take(idle=False)) is not None:
        sizes.append(piece.count)
    assert sum(sizes) == 1000
    assert sizes[:4] == [LARGEST] * 4 and sizes[-4:] == [1] * 4
    few = Work(seeing(5), workers=4)
    assert [few.take(idle=True).count for _ in range(5)] == [1] * 5


def test_what_waits_for_a_slow_slice_is_bounded():
    request = ImagineRequest((Wish("a corgi", count=100_000),))
    work, under_way = Work(request, workers=2), []
    while (piece := work.take(idle=True)) is not None:
        under_way.append(piece)
    assert sum(piece.count for piece in under_way) < 300
    for piece in under_way[1:]:
        work.finish(piece, [])
    assert list(work.tell()) == [] and work.take(idle=True) is None
    work.finish(under_way[0], [])
    assert list(work.tell()) == [] and work.take(idle=True) is not None


def test_a_part_keeps_what_concerns_it():
    request = UnderstandRequest(
        ("a", "-", "c", "d"),
        ("one?", "two?"),
        history=(Turn("q", "a"),),
        seed=7,
        origin=Origin("/somewhere", (("-", b"picture"),)),
        answered=((0, 1), (2, 1), (2, 3), (3, 2)),
    )
    whole = Whole(request)
    part = whole.part(Slice(2, 2))
    assert (part.images, part.answered) == (("c", "d"), ((0, 1), (0, 3), (1, 2)))
    assert part.origin == Origin("/somewhere")
    assert (part.questions, part.history, part.seed) == (request.questions, request.history, 7)
    assert whole.part(Slice(0, 2)).origin == request.origin


def test_pictures_that_belong_together_stay_together():
    request = UnderstandRequest(("a", "b"), ("what?",), together=True)
    work = Work(request, workers=8)
    piece = work.take(idle=True)
    assert work.whole.part(piece) == request
    assert work.take(idle=True) is None
    work.finish(piece, [answer(0, "a\nb")])
    assert list(work.tell()) == [answer(0, "a\nb")]


def test_wishes_are_cut_anywhere():
    request = ImagineRequest(
        (
            Wish("one", count=40, seed=100, drawn=(3, 20, 21)),
            Wish("two", count=2, drawn=(0, 1)),
            Wish("three", seed=5, guidance=2.0, negative="rain"),
            Wish("four", count=9, drawn=(0, 8)),
        )
    )
    work, drawn = Work(request, workers=2), []
    while (piece := work.take(idle=True)) is not None:
        part, offset = work.whole.part(piece), work.whole.offset(piece)
        assert len(draw(part)) == piece.count
        assert len(part.wishes) > 1  # the only wish of a request would fail with an error
        drawn += [(index + offset, prompt, seed) for index, prompt, seed in draw(part)]
        work.finish(piece, [])
        assert list(work.tell()) == []
    assert drawn == draw(request)
    last = Whole(request).part(Slice(37, 1)).wishes[0]
    assert (last.guidance, last.negative) == (2.0, "rain")


def test_the_only_wish_stays_the_only_one():
    whole = Whole(ImagineRequest((Wish("a corgi", count=4, seed=7),)))
    assert whole.part(Slice(1, 2)) == ImagineRequest((Wish("a corgi", count=2, seed=8),))


def test_a_wish_in_several_slices_fails_once():
    work = Work(ImagineRequest((Wish("long", count=3), Wish("short"))), workers=8)
    for _ in range(3):
        work.finish(work.take(idle=True), [Failure(0, "long", "is too long", "UsageError")])
    assert list(work.tell()) == [Failure(0, "long", "is too long", "UsageError")]


def test_an_error_comes_in_its_place():
    work = Work(seeing(3), workers=3)
    first, second, third = (work.take(idle=True) for _ in range(3))
    work.finish(second, ModelError("gone"))
    work.finish(third, list(do(work.whole.part(third))))
    assert list(work.tell()) == []
    work.finish(first, list(do(work.whole.part(first))))
    told = work.tell()
    assert next(told) == answer(0, "0")
    with pytest.raises(ModelError, match="gone"):
        next(told)


def test_what_a_dead_worker_had_is_done_again_and_one_picture_is_to_blame():
    """Two slices go with their worker; of their pictures one kills whoever takes it."""
    request = seeing(40)
    work, tries, told = Work(request, workers=1), 0, []
    lost = [work.take(idle=True), work.take(idle=False)]
    for piece in lost:
        work.lose(piece)
    assert work.take(idle=False) is None  # suspects are taken by the idle alone
    while not work.is_told():
        piece = work.take(idle=True)
        if piece.first <= 5 < piece.first + piece.count:
            assert piece.count == 1
            tries += 1
            work.lose(piece)
        else:
            work.finish(piece, list(do(work.whole.part(piece))))
        told += work.tell()
    expected = told_of(request)
    error = "3 processes have died over it; is it damaged, or is memory short?"
    expected[5] = Failure(5, "5", error, "InputError")
    assert told == expected
    assert tries == ATTEMPTS - 1


def test_a_drawing_that_kills_is_told_as_its_wish():
    work = Work(ImagineRequest((Wish("one"), Wish("two", count=2))), workers=3)
    pieces = [work.take(idle=True) for _ in range(3)]
    work.finish(pieces[0], [])
    work.finish(pieces[1], [])
    work.lose(pieces[2])
    for _ in range(ATTEMPTS - 1):
        work.lose(work.take(idle=True))
    (failure,) = work.tell()
    assert (failure.index, failure.input) == (1, "two")
