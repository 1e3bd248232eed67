"""Sequences that share a row without seeing each other. It knows nothing of what they say.

Letters: B rows, T positions, S pixels along a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from .sequences import CODED, DRAWN, NOTHING, Sample

COLUMNS = {"ids": 0, "targets": NOTHING, "positions": 0, "branches": 0, "weights": 0.0}
"""What a row of a batch says at every position, and what padding has there."""


@dataclass(frozen=True)
class Batch:
    """Rows of packed samples, padded on the right to the longest.

    ids, targets, positions, branches, weights (B, T) as in Sample; samples (B, T) int64 numbers the
    samples of a row, and padding is one more. seen, drawn (N, ...) are the pictures of lessons that
    are read and drawn, in the order in which they stand in the rows; coded (N, 2, K) are the codes
    of those that come as such, filled up with NOTHING where others have more.
    """

    ids: Tensor
    targets: Tensor
    positions: Tensor
    branches: Tensor
    weights: Tensor
    samples: Tensor
    seen: Tensor
    drawn: Tensor
    coded: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def of_codes(self) -> Tensor:
        """Where a code is learned, (B, T) bool."""
        return (self.targets == DRAWN) | (self.targets == CODED)

    def mask(self) -> Tensor | None:
        """(B, 1, T, T) bool, True where the row's position sees the column's; None where a
        position sees all before it, as attention that is merely causal takes half the time.
        """
        samples, branches = self.samples, self.branches
        if not (samples > 0).any() and not (branches > 0).any():
            return None  # padding comes last, so nothing sees it
        alike = samples[:, :, None] == samples[:, None, :]
        shared = branches[:, None, :] == 0
        own = branches[:, :, None] == branches[:, None, :]
        length = samples.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=samples.device).tril()
        return (alike & (shared | own) & causal)[:, None]


def pack(samples: Sequence[Sample], length: int) -> list[list[Sample]]:
    """Rows of at most `length` positions that hold all the samples: first fit, longest first."""
    rows: list[list[Sample]] = []
    free: list[int] = []
    for sample in sorted(samples, key=len, reverse=True):
        row = next((row for row, room in enumerate(free) if room >= len(sample)), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(length)
        rows[row].append(sample)
        free[row] -= len(sample)
    return rows


def collate(rows: Sequence[Sequence[Sample]]) -> Batch:
    """One batch of packed rows."""
    longest = max(sum(map(len, row)) for row in rows)
    columns: dict[str, Tensor] = {}
    for name, padding in COLUMNS.items():
        joined = [torch.cat([getattr(sample, name) for sample in row]) for row in rows]
        columns[name] = torch.stack([padded(values, longest, padding) for values in joined])
    numbers = [
        torch.cat([torch.full((len(sample),), number) for number, sample in enumerate(row)])
        for row in rows
    ]
    columns["samples"] = torch.stack([padded(values, longest, -1) for values in numbers])
    pictured = [sample for row in rows for sample in row if sample.picture is not None]
    seen = [sample.picture for sample in pictured if not sample.draws]
    drawn = [sample.picture for sample in pictured if sample.draws and not sample.coded]
    coded = [sample.picture for sample in pictured if sample.coded]
    return Batch(**columns, seen=stacked(seen), drawn=stacked(drawn), coded=stacked(coded))


def padded(values: Tensor, length: int, padding: float) -> Tensor:
    return torch.nn.functional.pad(values, (0, length - values.shape[-1]), value=padding)


def stacked(pictures: Sequence[np.ndarray | None]) -> Tensor:
    if not pictures:
        return torch.empty(0, dtype=torch.uint8)
    tensors = [torch.from_numpy(picture) for picture in pictures if picture is not None]
    longest = max(tensor.shape[-1] for tensor in tensors)  # those of codes alone differ
    return torch.stack([padded(tensor, longest, NOTHING) for tensor in tensors])
