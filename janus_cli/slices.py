"""A request in slices that others work on, and what they tell, in the order of the whole.

Knows neither who works on a slice nor where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .inputs import STDIN
from .schema import Event, Failure, ImagineRequest, Piece, Progress, UnderstandRequest, Wish

LARGEST = 16  # pictures of a slice
ROUNDS = 2  # slices that each worker gets at least, where there are enough pictures
WAITING = 64  # slices for each worker that are under way, or wait for one before them
WAITING_PICTURES = 4  # the same of those that carry whole pictures
ATTEMPTS = 3  # on one picture, by workers that die over it
NOTHING = Wish("nothing", drawn=(0,))

Request = UnderstandRequest | ImagineRequest


@dataclass(frozen=True)
class Slice:
    """Consecutive pictures of a request, of those that are to be looked at or drawn."""

    first: int
    count: int
    deaths: int = 0
    """How many workers have died over it; whoever takes it then, does nothing else beside it."""


class Whole:
    """A request whose pictures are counted, so that it can be cut anywhere between them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._drawings: list[tuple[int, int]] = []
        """The wish of every picture that is to be drawn, and its number there."""
        if isinstance(request, ImagineRequest):
            for index, wish in enumerate(request.wishes):
                left = set(range(wish.count)) - set(wish.drawn)
                self._drawings += [(index, i) for i in sorted(left)]
            self.count = len(self._drawings)
        else:
            self.count = 1 if request.together else len(request.images)

    def offset(self, piece: Slice) -> int:
        """The number of a slice's first input in the whole."""
        return self._drawings[piece.first][0] if self._drawings else piece.first

    def part(self, piece: Slice) -> Request:
        """The request for a slice."""
        if isinstance(self.request, ImagineRequest):
            return self._wishes(self.request, piece)
        return self.request if self.request.together else _images(self.request, piece)

    def _wishes(self, request: ImagineRequest, piece: Slice) -> ImagineRequest:
        pictures = self._drawings[piece.first : piece.first + piece.count]
        first, last = pictures[0][0], pictures[-1][0]
        numbers: list[list[int]] = [[] for _ in range(first, last + 1)]
        for index, i in pictures:
            numbers[index - first].append(i)
        meant = zip(request.wishes[first : last + 1], numbers, strict=True)
        wishes = [_some_of(wish, some) for wish, some in meant]
        if len(wishes) == 1 < len(request.wishes):
            wishes.append(NOTHING)  # a wish that fails alone would end the run
        return ImagineRequest(tuple(wishes))

    def failure(self, piece: Slice, error: str) -> Failure:
        """What is told of a slice of one picture that cannot be done, numbered as in the slice."""
        if isinstance(self.request, ImagineRequest):
            name = self.request.wishes[self.offset(piece)].prompt
        elif self.request.together:
            name = "\n".join(self.request.images)
        else:
            name = self.request.images[piece.first]
        return Failure(0, name, error, "InputError")


def _images(request: UnderstandRequest, piece: Slice) -> UnderstandRequest:
    last = piece.first + piece.count
    images = request.images[piece.first : last]
    answered = tuple(
        (number - piece.first, page)
        for number, page in request.answered
        if piece.first <= number < last
    )
    given = request.origin.given if STDIN in images else ()
    origin = replace(request.origin, given=given)
    return replace(request, images=images, answered=answered, origin=origin)


def _some_of(wish: Wish, numbers: Sequence[int]) -> Wish:
    """The wish for some of its pictures alone: picture i is drawn with `seed + i` all the same."""
    if not numbers:
        return NOTHING
    first, last = numbers[0], numbers[-1]
    others = sorted(set(range(first, last + 1)) - set(numbers))
    drawn = tuple(i - first for i in others)
    return replace(wish, count=last - first + 1, seed=wish.seed + first, drawn=drawn)


class Work:
    """The slices of a request: to be done, under way, and done but not told yet."""

    def __init__(self, request: Request, workers: int) -> None:
        self.whole = Whole(request)
        self.done = 0
        """How many pictures are done."""
        self._drawing = isinstance(request, ImagineRequest)
        self._workers = workers
        self._most = workers * (WAITING_PICTURES if self._drawing else WAITING)
        self._next = 0
        self._again: list[Slice] = []
        self._untold: dict[int, tuple[Slice, list[Event] | Exception]] = {}
        """By their first pictures."""
        self._told = 0
        self._open = 0
        """How many slices were taken and are not told."""
        self._failed: set[int] = set()
        """The wishes whose failure was told."""

    @property
    def total(self) -> int:
        return self.whole.count

    def is_told(self) -> bool:
        """Whether nothing is left."""
        return self._told == self.total

    def take(self, *, idle: bool) -> Slice | None:
        """The next slice for a worker, if there is one; what others have died over comes first, for
        one that has nothing else to do."""
        if self._again:
            return self._again.pop(0) if idle else None
        left = self.total - self._next
        if not left or self._open >= self._most:
            return None
        count = max(1, min(LARGEST, left // (self._workers * ROUNDS)))
        piece = Slice(self._next, count)
        self._next += count
        self._open += 1
        return piece

    def finish(self, piece: Slice, told: list[Event] | Exception) -> None:
        """Keep what was told of a slice, or the error that ends the run in its place."""
        self._untold[piece.first] = piece, told
        self.done += piece.count

    def lose(self, piece: Slice) -> None:
        """Have a slice done again over which a worker has died: picture by picture, to find the one
        to blame, which fails in the end."""
        deaths = piece.deaths + 1
        if piece.count == 1 and deaths == ATTEMPTS:
            name = f"{deaths} processes have died over it"
            failure = self.whole.failure(piece, f"{name}; is it damaged, or is memory short?")
            self.finish(piece, [failure])
            return
        self._open += piece.count - 1
        self._again += [Slice(piece.first + i, 1, deaths) for i in range(piece.count)]
        self._again.sort(key=lambda again: again.first)

    def tell(self) -> Iterator[Event]:
        """What can be told now, in order; an error is raised in its place."""
        while self._told in self._untold:
            piece, told = self._untold.pop(self._told)
            if isinstance(told, Exception):
                raise told
            self._told += piece.count
            self._open -= 1
            yield from self._in_whole(told, self.whole.offset(piece))

    def _in_whole(self, told: list[Event], offset: int) -> Iterator[Event]:
        """The events of a slice as those of the whole; a wish in several slices fails once."""
        for event in told:
            if isinstance(event, (Piece, Progress)):
                continue
            event = replace(event, index=event.index + offset)
            if isinstance(event, Failure) and self._drawing:
                if event.index in self._failed:
                    continue
                self._failed.add(event.index)
            yield event
