"""Pictures for many callers, drawn and painted. It does not know in which thread, nor of text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .decode import Drawing, Native, Sampling
from .machine import give_back_memory, is_out_of_memory
from .strand import Call


class Order(Call[Tensor]):
    """Pictures that one caller wants, drawn in one part, or in several where memory is short.

    The caller is told what every step has made of them, (pictures, ...), one after the other.
    """

    def __init__(self, drawings: Sequence[Drawing], sampling: Sampling) -> None:
        super().__init__()
        self.sampling = sampling
        self.rest = list(drawings)
        """Those that no part has begun."""
        self.parts: list[Part] = []
        """Only the last one may be under way."""
        self.steps = 0
        """Of how many steps the caller has been told."""
        self.gone = False

    def begin(self, most: int) -> Part:
        """A part of up to so many pictures."""
        self.parts.append(Part(self, self.rest[:most]))
        self.rest = self.rest[most:]
        return self.parts[-1]

    def put_back(self) -> None:
        """Let the last part be drawn again; the caller will hear of no step twice."""
        self.rest = self.parts.pop().drawings + self.rest

    def tell(self) -> None:
        """Pass on the steps that every picture has made."""
        while not self.rest and self.steps < len(self.parts[-1].columns):
            self.told.put(torch.cat([part.columns[self.steps] for part in self.parts]))
            self.steps += 1


@dataclass(eq=False)
class Part:
    """Pictures of one order that are drawn at once."""

    order: Order
    drawings: list[Drawing]
    columns: list[Tensor] = field(default_factory=list)
    """(pictures, ...) of each step."""


class Drawings:
    """The strand of steps. Orders that wait together and have equal settings are one batch."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.most = native.most_pictures()
        """How many pictures memory had room for, when no batch was under way."""
        self.limit: int | None = None
        """Half of what memory has turned out to be too small for."""
        self.retried = False
        """Whether memory has run out for a lone picture."""
        self.waiting: deque[Order] = deque()
        self.parts: list[Part] = []
        """What is drawn in the batch under way, in its order."""
        self.columns: Iterator[Tensor] = iter(())

    def busy(self) -> bool:
        return bool(self.waiting or self.parts)

    def under_way(self) -> int:
        """How many pictures are being drawn for somebody."""
        return sum(len(part.drawings) for part in self.parts if not part.order.gone)

    def hand_in(self, order: Order) -> None:
        """Let an order wait for the next batch."""
        self.waiting.append(order)

    def advance(self) -> None:
        """Go on by one step in every picture of the batch."""
        if not self.parts:
            self.begin()
        column = next(self.columns).cpu()
        shares = column.split([len(part.drawings) for part in self.parts])
        for part, share in zip(self.parts, shares, strict=True):
            part.columns.append(share)
            part.order.tell()
        first = self.parts[0]
        if len(first.columns) == self.native.steps(first.order.sampling):
            self.end()

    def begin(self) -> None:
        """Make a batch of the first order and of what fits beside it."""
        self.most = self.native.most_pictures()
        most = min(self.most, self.limit or self.most)
        sampling = self.waiting[0].sampling
        parts: list[Part] = []
        for order in [order for order in self.waiting if order.sampling == sampling]:
            room = most - sum(len(part.drawings) for part in parts)
            if not parts or len(order.rest) <= room:
                self.waiting.remove(order)
                parts.append(order.begin(room))
        self.parts = parts
        drawings = [drawing for part in parts for drawing in part.drawings]
        self.columns = self.native.draw(drawings, sampling)

    def end(self) -> None:
        """Let orders go on whose other pictures are still to be drawn."""
        self.wait_again([part.order for part in self.parts if part.order.rest])
        self.retried = False
        if not self.waiting:
            self.limit = None
        self.stop()

    def stop(self) -> None:
        """Give up the batch."""
        self.parts, self.columns = [], iter(())

    def wait_again(self, orders: Sequence[Order]) -> None:
        """Put orders before those that have not been begun."""
        self.waiting.extendleft(order for order in reversed(orders) if not order.gone)

    def fail(self, error: Exception) -> None:
        """Draw fewer at once where memory ran out; who asked for more than it holds, hears so."""
        if not self.parts:  # not even the first order could be begun
            self.waiting.popleft().told.put(error)
            return
        orders = [part.order for part in self.parts]
        count = sum(len(part.drawings) for part in self.parts)
        self.stop()
        give_back_memory(self.native.model.device)
        if is_out_of_memory(error) and not (count == 1 and self.retried):
            self.limit, self.retried = max(1, count // 2), count == 1
            for order in orders:
                order.put_back()
            self.wait_again(orders)
        else:
            self.limit, self.retried = None, False
            for order in orders:
                order.told.put(error)

    def leave(self, call: Order) -> None:
        call.gone = True
        if call in self.waiting:
            self.waiting.remove(call)
        if self.parts and not self.under_way():
            self.stop()


class Painting(Call[Tensor]):
    """What all steps have made of pictures, (pictures, steps, ...), that a caller wants to see."""

    def __init__(self, drawn: Tensor) -> None:
        super().__init__()
        self.drawn = drawn
        self.pictures: list[Tensor] = []


class Paintings:
    """The strand of pixels: one picture at a time, of each caller in turn."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.waiting: deque[Painting] = deque()

    def busy(self) -> bool:
        return bool(self.waiting)

    def hand_in(self, painting: Painting) -> None:
        """Let pictures wait for their turn."""
        self.waiting.append(painting)

    def advance(self) -> None:
        """Paint one picture."""
        painting = self.waiting[0]
        drawn = painting.drawn[len(painting.pictures)][None].to(self.native.model.device)
        painting.pictures.append(self.native.paint(drawn))
        if len(painting.pictures) < len(painting.drawn):
            self.waiting.rotate(-1)
        else:
            self.waiting.popleft().told.put(torch.cat(painting.pictures))

    def fail(self, error: Exception) -> None:
        self.waiting.popleft().told.put(error)

    def leave(self, call: Painting) -> None:
        if call in self.waiting:
            self.waiting.remove(call)
