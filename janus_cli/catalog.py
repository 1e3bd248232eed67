"""The installed models: what each is, what it takes, and which one answers by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import adapters, weights
from .errors import ModelError

RANKS = ("int4", "nf4", "int8", "fp16", "bf16", "fp32")  # the better, the later


@dataclass(frozen=True)
class Entry:
    """One installed model. Where it cannot be read, `error` says why and the rest is empty."""

    name: str
    path: str
    family: str | None = None
    numbers: int | None = None
    """How many numbers the model has."""
    layout: str | None = None
    precision: str | None = None
    """Of the numbers in its files."""
    disk_bytes: int = 0
    runs_at: str | None = None
    """The precision that `auto` takes here."""
    memory_bytes: int | None = None
    """What running it at that precision takes."""
    fits: bool | None = None
    error: str | None = None


@dataclass(frozen=True)
class AdapterEntry:
    """One installed adapter. Where it cannot be read, `error` says why and the rest is empty."""

    adapter: str
    """Its name."""
    path: str
    base: str | None = None
    """The model that it was trained on."""
    kind: str | None = None
    rank: int | None = None
    """Of low-rank products."""
    disk_bytes: int = 0
    error: str | None = None


def entries(device_name: str) -> Iterator[Entry]:
    """Every installed model, the embedded one first."""
    from .engine.machine import choose_device

    device = choose_device(device_name)
    for name in weights.installed():
        yield look_at(name, weights.find_model(name), device)


def look_at(name: str, path: Path, device: object) -> Entry:
    from .engine.describe import describe

    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    try:
        found = describe(path, device)  # type: ignore[arg-type]
    except ModelError as error:
        return Entry(name, str(path), disk_bytes=size, error=str(error))
    return Entry(
        name=name,
        path=str(path),
        family=found.family,
        numbers=found.fit.numbers,
        layout=found.layout,
        precision=found.precision,
        disk_bytes=size,
        runs_at=found.fit.precision,
        memory_bytes=found.fit.needs,
        fits=found.fit.fits,
    )


def adapter_entries() -> list[AdapterEntry]:
    """Every installed adapter."""
    return [_look_at_adapter(name) for name in adapters.installed()]


def _look_at_adapter(name: str) -> AdapterEntry:
    path = weights.shelf() / name
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    try:
        found = adapters.read(path)
    except ModelError as error:
        return AdapterEntry(name, str(path), disk_bytes=size, error=str(error))
    return AdapterEntry(name, str(path), found.base, found.kind, found.rank or None, size)


def choose_largest(device_name: str) -> str:
    """The name of the model that answers where none was chosen: the largest that fits.

    Of two of a size, the one that runs at the better precision, then the one that need not be
    quantized at every start. The embedded model where nothing else fits.
    """
    others = [name for name in weights.installed() if name != weights.EMBEDDED]
    if not others:
        return weights.EMBEDDED
    from .engine.describe import measure
    from .engine.machine import choose_device

    device = choose_device(device_name)
    fitting = []
    for name in others:
        try:
            found = measure(weights.find_model(name), device)
        except ModelError:
            continue  # `janus models` shows it
        if found.fits:
            key = (found.numbers, RANKS.index(found.precision), found.ready)
            fitting.append((key, name))
    return max(fitting)[1] if fitting else weights.EMBEDDED
