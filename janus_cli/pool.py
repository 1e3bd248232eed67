"""Requests on a Ray cluster: workers with a model each, which get slices and give back events.

The only place that knows Ray. What a worker needs is read where it runs: hosts of one cluster are
taken to share their files, and to have the same janus installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from . import terminal
from .errors import ModelError, UsageError
from .reach import require_cluster
from .schema import Event, ImagineRequest, ModelChoice, Progress, UnderstandRequest
from .signals import undisturbed
from .slices import ATTEMPTS, Request, Slice, Work
from .worker import Share, Worker, share_out, slices_at_once

STORE = 256 * 2**20  # bytes for what workers of our own cluster hand over
PATIENCE = 120  # seconds until somebody must have got a place in the cluster
LOOK_UP = 0.5  # seconds between two looks at whether anybody has
PACKAGES = Path(__file__).resolve().parent.parent
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",  # what it lets through is printed on standard output
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` has the folder packed and sent
}


def require_ray() -> None:
    """Raise a UsageError unless Ray is installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--ray: needs Ray; pip install ray")


def run(
    request: Request, model: Path, choice: ModelChoice, *, workers: int | None = None
) -> Iterator[Event]:
    """The events of a request, as the tasks yield them, but for the pieces of answers.

    RAY_ADDRESS says which cluster does the work; else this machine becomes one until the end.

    Raises:
        ModelError: the cluster cannot be reached, or has no place for a model; or a worker says so.
        UsageError: an option or a name that means something to this process alone.
    """
    request = _ready_to_leave(request, choice)
    with _cluster(os.environ.get("RAY_ADDRESS", "")):
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = share_out(nodes, choice.device, workers)
        yield from Pool(request, model.resolve(), choice, share).events()


def _ready_to_leave(request: Request, choice: ModelChoice) -> Request:
    """The request as other processes understand it."""
    from . import client

    if ":" in choice.device:
        raise UsageError(f"--device {choice.device}: --ray gives each model a GPU; say cuda")
    if not isinstance(request, UnderstandRequest):
        return request
    for name in request.images:
        if name.startswith(client.SPECIAL):
            raise UsageError(f"{name}: means nothing to other processes; --ray reads - or a file")
    return replace(request, origin=client.origin(request))


# The cluster


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Ray, connected; what was started here ends with it, and of another cluster our workers."""
    os.environ.update(QUIET)
    require_cluster(address)
    import ray

    options: dict[str, Any] = {"address": address}
    if address in ("", "local"):
        options = {"address": "local", "include_dashboard": False, "object_store_memory": STORE}
    try:
        try:
            with undisturbed():  # a signal would crash it
                ray.init(**options, logging_level=logging.CRITICAL, log_to_driver=False)
        except Exception as error:
            place = f"RAY_ADDRESS {address}" if address else "this machine"
            raise ModelError(f"--ray: no cluster on {place}: {_in_a_line(error)}") from error
        yield
    finally:
        ray.shutdown()


def _in_a_line(error: Exception) -> str:
    """The beginning of what an error says."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]}..."


def _last_line(error: Exception) -> str:
    """What an error of Ray says behind its traceback."""
    return str(error).strip().rpartition("\n")[2]


# The workers


class Step(Enum):
    """What a worker does before its first slice."""

    COMING = 0
    LOADING = 1


@dataclass
class Seat:
    """A place in the cluster, and the worker that has it now."""

    actor: Any = None
    here: bool = False
    loaded: bool = False
    deaths: int = 0
    """How many of its workers have died before they had loaded the model, one after the other."""
    slices: list[Slice] = field(default_factory=list)


class Pool:
    """The workers of one request."""

    def __init__(self, request: Request, model: Path, choice: ModelChoice, share: Share) -> None:
        import ray

        self.work = Work(request, share.workers)
        self._seats = [Seat() for _ in range(share.workers)]
        self._loading = (model, choice, isinstance(request, ImagineRequest))
        self._at_once = slices_at_once(choice)
        self._awaited: dict[Any, tuple[Seat, Slice | Step]] = {}
        """What each reference will say something of."""
        self._notes: set[str] = set()
        self._met = time.monotonic()
        """When a worker was there last."""
        path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        threads = str(share.threads)
        self._new_actor = partial(
            ray.remote(Worker)
            .options(
                num_cpus=share.cpus,
                num_gpus=share.gpus,
                max_concurrency=self._at_once + 1,
                runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": threads}},
            )
            .remote
        )

    def events(self) -> Iterator[Event]:
        """Have everything done, and tell it in order."""
        for seat in self._seats:
            self._fill(seat)
        while not self.work.is_told():
            with undisturbed():  # Ray would make an error of its own of a signal
                self._hand_out()
                for reference in self._wait():
                    self._take_in(reference)
            if any(seat.loaded for seat in self._seats):
                yield self._progress()
            yield from self.work.tell()

    def _progress(self) -> Progress:
        if self.work.total == 1:
            return Progress("working", 0, 0)
        return Progress("pictures", self.work.done, self.work.total, counted=True)

    def _fill(self, seat: Seat) -> None:
        """Have a new worker come."""
        seat.actor, seat.here, seat.loaded, seat.slices = self._new_actor(), False, False, []
        self._awaited[seat.actor.here.remote()] = seat, Step.COMING
        self._awaited[seat.actor.load.remote(*self._loading)] = seat, Step.LOADING

    def _hand_out(self) -> None:
        """Give every worker as much as it may have at once."""
        for _ in range(self._at_once):
            for seat in self._seats:
                blamed = any(piece.deaths for piece in seat.slices)
                if not seat.loaded or blamed or len(seat.slices) == self._at_once:
                    continue
                piece = self.work.take(idle=not seat.slices)
                if piece is not None:
                    seat.slices.append(piece)
                    part = self.work.whole.part(piece)
                    self._awaited[seat.actor.run.remote(part)] = seat, piece

    def _wait(self) -> list[Any]:
        """The references that have something to say by now."""
        import ray

        said: list[Any]
        said, _ = ray.wait(list(self._awaited), timeout=LOOK_UP)
        now = time.monotonic()
        if said or any(seat.here for seat in self._seats):
            self._met = now
        elif now - self._met > PATIENCE:
            raise ModelError(
                f"--ray: the cluster has had no place for a model for {now - self._met:.0f} s; "
                "ray status shows who uses it, and a lower --ray-workers may fit"
            )
        return said

    def _take_in(self, reference: Any) -> None:
        """Hear what a worker has to say, or that it has died."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        if reference not in self._awaited:
            return  # its worker has died
        seat, about = self._awaited[reference]
        try:
            outcome = ray.get(reference)
        except RayTaskError as error:
            raise ModelError(
                f"--ray: a worker cannot do its work ({_last_line(error)}); is the same janus "
                "installed on every host of the cluster?"
            ) from error
        except RayError as error:
            self._replace(seat, error)
            return
        del self._awaited[reference]
        if isinstance(about, Slice):
            seat.slices.remove(about)
            self.work.finish(about, outcome)
        elif about is Step.COMING:
            seat.here = True
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            seat.loaded, seat.deaths = True, 0
            self._note(outcome)

    def _replace(self, seat: Seat, error: Exception) -> None:
        """Give the seat of a dead worker to a new one, and its slices to whoever is free."""
        import ray

        ray.kill(seat.actor)
        others = [item for item in self._awaited.items() if item[1][0] is not seat]
        self._awaited = dict(others)
        for piece in seat.slices:
            self.work.lose(piece)
        seat.deaths += not seat.loaded
        if seat.deaths < ATTEMPTS:
            self._fill(seat)
            return
        self._seats.remove(seat)
        if not self._seats:
            raise ModelError(
                f"--ray: workers die before they have loaded the model ({_in_a_line(error)}); is "
                "memory short? a lower --ray-workers takes less"
            ) from error

    def _note(self, notes: Sequence[str]) -> None:
        """Say what has not been said yet."""
        for note in notes:
            if note not in self._notes:
                self._notes.add(note)
                terminal.say(note)
