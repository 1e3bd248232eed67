"""What is known of models and of this machine → standard output."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from . import terminal
from .catalog import AdapterEntry, Entry
from .client import Warm
from .errors import size_in_words
from .progress import in_words
from .schema import Finding

Row = tuple[str, ...]
WARM_HEADINGS = ("NAME", "HELD IN", "DEVICE", "PROCESS", "WARM FOR", "KEPT", "UNDER WAY")
HEADINGS = (
    "NAME",
    "FAMILY",
    "NUMBERS",
    "LAYOUT",
    "HELD IN",
    "ON DISK",
    "RUNS AT",
    "MEMORY",
    "FITS",
)
ADAPTER_HEADINGS = ("ADAPTER", "TRAINED ON", "KIND", "RANK", "ON DISK")


def write_entries(entries: Sequence[Entry], *, as_json: bool) -> None:
    """Models as a table with their folders under them, or as one JSON object a line."""
    if as_json:
        for entry in entries:
            terminal.write_json(asdict(entry))
        return
    below = [f"  {terminal.one_line(entry.error or entry.path)}\n" for entry in entries]
    _write_table(HEADINGS, [_row(entry) for entry in entries], below)


def write_adapters(entries: Sequence[AdapterEntry], *, as_json: bool) -> None:
    """Adapters in the same way, where there are any."""
    if as_json:
        for entry in entries:
            terminal.write_json(asdict(entry))
    elif entries:
        below = [f"  {terminal.one_line(entry.error or entry.path)}\n" for entry in entries]
        rows = [_adapter_row(entry) for entry in entries]
        terminal.write("\n")
        _write_table(ADAPTER_HEADINGS, rows, below)


def _adapter_row(entry: AdapterEntry) -> Row:
    cells = (entry.base or "?", entry.kind or "?", str(entry.rank or "-"))
    row = (entry.adapter, *cells, size_in_words(entry.disk_bytes))
    return tuple(terminal.one_line(cell) for cell in row)


def write_warm(models: Sequence[Warm], *, as_json: bool) -> None:
    """Warm models as a table, or as one JSON object a line."""
    if as_json:
        for model in models:
            terminal.write_json(asdict(model))
    elif models:
        rows = [_warm_row(model, time.time()) for model in models]
        _write_table(WARM_HEADINGS, rows, [""] * len(rows))


def _write_table(headings: Row, rows: Sequence[Row], below: Sequence[str]) -> None:
    """Rows under their headings, each with the line that belongs to it."""
    everything = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    for row, line in zip(everything, ["", *below], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminal.write("  ".join(cells).rstrip() + "\n" + line)


def _warm_row(model: Warm, now: float) -> Row:
    kept = "until stopped" if model.keep_alive is None else in_words(model.keep_alive)
    cells = [model.name, model.precision, model.device, str(model.pid)]
    cells += [in_words(now - model.since), kept, str(model.under_way)]
    return tuple(terminal.one_line(cell) for cell in cells)


def write_findings(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Findings as they come, a line each; whether nothing was wrong."""
    sound, part = True, None
    for finding in findings:
        sound &= not finding.wrong
        if as_json:
            terminal.write_json(asdict(finding))
            continue
        if finding.part != part:
            part = finding.part
            terminal.write(f"{part}\n")
        mark = "!" if finding.wrong else " "
        terminal.write(f"{mark} {finding.name}: {terminal.one_line(finding.value)}\n")
    return sound


def _row(entry: Entry) -> tuple[str, ...]:
    if entry.error is not None:
        cells = (entry.name, "?", "?", "?", "?", size_in_words(entry.disk_bytes), "?", "?", "no")
    else:
        cells = (
            entry.name,
            str(entry.family),
            numbers(entry.numbers or 0),
            str(entry.layout),
            str(entry.precision),
            size_in_words(entry.disk_bytes),
            str(entry.runs_at),
            size_in_words(entry.memory_bytes or 0),
            "yes" if entry.fits else "no",
        )
    return tuple(terminal.one_line(cell) for cell in cells)


def numbers(count: int) -> str:
    """How many numbers a model has, in words."""
    return f"{count / 1e9:.1f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"
