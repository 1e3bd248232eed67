"""One of several processes that work on a request: what it gets, and what it does with a slice.

Knows nothing of what connects it with the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import JanusError
from .schema import Event, ModelChoice, UnderstandRequest
from .slices import Request

CPUS_A_MODEL = 4


@dataclass(frozen=True)
class Share:
    """How many workers there are, and what each has of all machines."""

    workers: int
    cpus: float
    gpus: float
    threads: int


def share_out(
    machines: Sequence[dict[str, float]], device: str, workers: int | None = None
) -> Share:
    """A worker for every GPU of the machines, or where there is none for every few CPUs; `workers`
    says otherwise. Each machine is its numbers of "CPU" and "GPU"."""
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus and device in ("auto", "cuda"):
        count = workers or gpus
        on_each = math.ceil(count / gpus)
        return Share(count, 0, _rounded(1 / on_each), max(1, sum(cpus) // count))
    count = workers or max(1, sum(each // CPUS_A_MODEL for each in cpus))
    for threads in range(max(cpus, default=0), 0, -1):
        if sum(each // threads for each in cpus) >= count:
            return Share(count, threads, 0, threads)
    return Share(count, _rounded(max(1, sum(cpus)) / count), 0, 1)


def _rounded(share: float) -> float:
    """A part that can be had as often as it should: they are counted in ten-thousandths."""
    return math.floor(share * 10_000) / 10_000


class Worker:
    """A process with a model of its own."""

    def here(self) -> None:
        """Answer at all."""

    def load(self, model: Path, choice: ModelChoice, drawing: bool) -> Sequence[str] | Exception:
        """Load the parts that draw or those that read; what should be known of how they run."""
        from .engine.decode import Native
        from .engine.load import open_engine
        from .engine.shared import Shared

        try:
            engine = open_engine(model, choice, vision=not drawing, drawing=drawing)
        except Exception as error:
            return _plain(error)
        self.engine: Any = Shared(engine) if isinstance(engine, Native) else engine
        return engine.notes

    def run(self, request: Request) -> list[Event] | Exception:
        """What a slice leads to; called on threads, as many as slices_at_once says."""
        from . import imagine, understand

        try:
            if isinstance(request, UnderstandRequest):
                return list(understand.run(request, self.engine))
            return list(imagine.run(request, self.engine))
        except Exception as error:
            return _plain(error)


def slices_at_once(choice: ModelChoice) -> int:
    """How many slices a worker has: while one ends, the next keeps the batch full. Transformers'
    networks do one thing at a time."""
    return 2 if choice.backend == "janus" else 1


def _plain(error: Exception) -> Exception:
    """An error that can be sent, and says the same there as here."""
    if isinstance(error, (JanusError, MemoryError)):
        return error.with_traceback(None)
    return RuntimeError(f"{type(error).__name__}: {error}")
