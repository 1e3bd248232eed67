"""Keys and values of the positions that the decoder has seen, so that a step computes only its own.

Keys are kept transposed: the product of one query with them is then as fast as any other way that
was measured, or faster (benchmarks/attention.py). Rows start at slot 0, whatever their length, and
each attends over its own slots alone, so that its numbers do not depend on the rows beside it. Rows
that begin alike hold that each, but the kernel's step reads it once for all of them.
Letters: B rows, N of them, T positions, S slots, H heads, K key-value heads, E head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from .config import LanguageConfig

VECTOR = 32  # slots that the kernel's step reads at once


@dataclass(eq=False)
class Beginning:
    """What some rows begin with, each holding it itself: so many positions."""

    length: int


class Cache:
    """Room for `capacity` positions of every row and layer; `lengths` of them are filled."""

    def __init__(
        self,
        config: LanguageConfig,
        rows: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        heads, size, layers = config.kv_heads, config.head_size, range(config.layers)
        capacity = whole_vectors(capacity, device)
        one = torch.zeros((), dtype=dtype, device=device)
        self.keys = [one.new_zeros(rows, heads, size, capacity) for _ in layers]  # (B, K, E, S)
        self.values = [one.new_zeros(rows, heads, capacity, size) for _ in layers]  # (B, K, S, E)
        self.lengths = [0] * rows
        self.beginnings: list[Beginning | None] = [None] * rows
        self.runs: list[tuple[int, int, int]] = []
        """First row, last row + 1 and length, for neighbours of one length in this step."""

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        return self.keys[0].dtype

    def reserve(self, rows: int, capacity: int) -> None:
        """Make room for more, one layer after the other; what is held stays."""
        held_rows, _, _, held = self.keys[0].shape
        rows = max(rows, held_rows)
        capacity = max(whole_vectors(capacity, self.keys[0].device), held)
        if (rows, capacity) == (held_rows, held):
            return
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            _, heads, size, _ = keys.shape
            self.keys[layer] = keys.new_zeros(rows, heads, size, capacity)
            self.keys[layer][:held_rows, ..., :held] = keys
            self.values[layer] = values.new_zeros(rows, heads, capacity, size)
            self.values[layer][:held_rows, :, :held] = values
        self.lengths += [0] * (rows - held_rows)
        self.beginnings += [None] * (rows - held_rows)

    def move(self, source: int, target: int) -> None:
        """Put what one row holds into another, and empty the first."""
        if source != target:
            length = self.lengths[source]
            for keys, values in zip(self.keys, self.values, strict=True):
                keys[target, ..., :length] = keys[source, ..., :length]
                values[target, :, :length] = values[source, :, :length]
            self.lengths[target] = length
            self.beginnings[target] = self.beginnings[source]
        self.lengths[source], self.beginnings[source] = 0, None

    def fill(
        self, layer: int, rows: Sequence[int], keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put T positions (N or 1, K, T, E) of prompts after what `rows` hold, all of one length.

        Returns the keys and values (N or 1, K, S, E) of all their positions until now, as they are
        held from now on.
        """
        start, dtype = self.lengths[rows[0]], keys.dtype
        end = start + keys.shape[2]
        # Turned round once, and not for each of the rows that hold the same.
        turned = keys.to(self.dtype).transpose(-1, -2).contiguous()
        at = neighbors(rows)
        self.keys[layer][at, ..., start:end] = turned
        self.values[layer][at, :, start:end] = values.to(self.dtype)
        if start == 0:
            return keys.to(self.dtype).to(dtype), values.to(self.dtype).to(dtype)
        # As they are held, torch's attention takes four times as long as with the copy.
        keys = self.keys[layer][at, ..., :end].transpose(-1, -2).contiguous()
        return keys.to(dtype), self.values[layer][at, :, :end].to(dtype)

    def share(self, rows: Sequence[int], length: int) -> None:
        """Remember in how many positions rows that were empty begin alike now."""
        beginning = Beginning(length) if length and len(rows) > 1 else None
        for row in rows:
            self.beginnings[row] = beginning

    def leaders(self, rows: int) -> list[tuple[int, int]]:
        """For each of the first rows, the first one that begins as it does, and how far; itself and
        0 where there is none before it. A step reads that once, for all of them."""
        firsts: dict[Beginning, int] = {}
        found = []
        for row, beginning in enumerate(self.beginnings[:rows]):
            leader = firsts.setdefault(beginning, row) if beginning else row
            found.append((leader, beginning.length if beginning and leader != row else 0))
        return found

    def begin(self, rows: int) -> Tensor:
        """Begin a step of the first `rows` rows; their positions (B,) int64."""
        lengths = self.lengths[:rows]
        self.runs = []
        for length, run in groupby(lengths):
            first = self.runs[-1][1] if self.runs else 0
            self.runs.append((first, first + len(list(run)), length))
        return torch.tensor(lengths, device=self.keys[0].device)

    def attend(self, layer: int, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Put keys and values (B, K, 1, E) of this step in place, and let q (B, H, 1, E) look.

        Returns what each head saw, (B, 1, H * E).
        """
        mixed = []
        for first, last, slot in self.runs:
            own_keys = self.keys[layer][first:last, ..., : slot + 1]
            own_values = self.values[layer][first:last, :, : slot + 1]
            own_keys[..., slot] = keys[first:last, :, 0]
            own_values[:, :, slot] = values[first:last, :, 0]
            mixed.append(look(q[first:last], own_keys, own_values))
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def end(self) -> None:
        """End the step that was begun."""
        for first, last, length in self.runs:
            self.lengths[first:last] = [length + 1] * (last - first)


class StaticCache(Cache):
    """The same with the lengths on the device and all slots in every step.

    Nothing of a step then depends on what the host knows, so that it can be captured as a graph.
    All rows step together, and none is filled any more once they do.
    """

    slots: Tensor | None = None

    def begin(self, rows: int) -> Tensor:
        device = self.keys[0].device
        if self.slots is None:
            self.rows = torch.arange(rows, device=device)
            self.slots = torch.tensor(self.lengths, device=device)
        seen = torch.arange(self.capacity, device=device) <= self.slots[:, None]
        self.seen = seen[:, None, None]  # (B, 1, 1, S)
        return self.slots

    def attend(self, layer: int, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        self.keys[layer][self.rows, ..., self.slots] = keys[:, :, 0]
        self.values[layer][self.rows, :, self.slots] = values[:, :, 0]
        return look(q, self.keys[layer], self.values[layer], self.seen)

    def end(self) -> None:
        assert self.slots is not None, "no step was begun"
        self.slots.add_(1)


def neighbors(rows: Sequence[int]) -> slice | list[int]:
    """Rows as an index: a slice where they can be one, which takes a quarter of the time."""
    run = range(rows[0], rows[0] + len(rows))
    return slice(run.start, run.stop) if list(rows) == list(run) else list(rows)


def whole_vectors(capacity: int, device: torch.device) -> int:
    """A capacity on a CPU is a multiple of VECTOR, since the kernel reads keys in whole ones."""
    return capacity + -capacity % VECTOR if device.type == "cpu" else capacity


def look(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None) -> Tensor:
    """One query of each head, (B, H, 1, E), over keys (B, K, E, S) and values (B, K, S, E).

    Where `seen` (B or 1, 1, 1, S) is given, only slots at which it is True. Plain products, since
    scaled_dot_product_attention takes longer at one query on a CPU.
    """
    batch, heads, size, _ = keys.shape
    grouped = q.view(batch, heads, -1, size) * size**-0.5  # (B, K, H / K, E)
    scores = grouped @ keys
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    return (scores.softmax(-1) @ values).view(batch, 1, -1)


def cache_bytes(config: LanguageConfig, *, rows: int, capacity: int, dtype: torch.dtype) -> int:
    """What such a cache takes in memory."""
    numbers = 2 * config.layers * rows * config.kv_heads * capacity * config.head_size
    return numbers * dtype.itemsize
