"""Endless pictures of the world as tensors, drawn ahead of the training loop by other processes.

Every item comes from a seed of its own. Training seeds start at `TRAINING_SEEDS`; all seeds below
belong to evaluation and tests, so nothing that is measured was ever trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

TRAINING_SEEDS = 1_000_000


class Seeds(IterableDataset):
    """`make(seed)` for seed = first, first + 1, ..., dealt out over the worker processes."""

    def __init__(self, make: Callable[[int], Any], first: int) -> None:
        self.make = make
        self.first = first

    def __iter__(self) -> Iterator[Any]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        seed = self.first + offset
        while True:
            yield self.make(seed)
            seed += stride


def stream(
    make: Callable[[int], Any], *, batch: int, first: int, workers: int = 1, collate: Any = None
) -> Iterator[Any]:
    """Batches of `make(seed)`, without end, drawn ahead by `workers` processes."""
    loader = DataLoader(
        Seeds(make, first),
        batch_size=batch,
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def to_pixels(pictures: Tensor) -> Tensor:
    """uint8 pictures (B, H, W, 3) to float pixels (B, 3, H, W) in [-1, 1]."""
    return pictures.movedim(-1, 1).float() / 127.5 - 1
