"""The losses of a run for TensorBoard, where that is installed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .loop import Record


def open_board(folder: Path) -> Any:
    """Where TensorBoard looks for the losses.

    Raises:
        UsageError: it is not installed.
    """
    with suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder))
    raise UsageError("--tensorboard: needs tensorboard; pip install tensorboard")


def show_on(board: Any, record: Record) -> None:
    for name in ("words", "codes", "rate"):
        if getattr(record, name) is not None:
            board.add_scalar(name, getattr(record, name), record.step)
