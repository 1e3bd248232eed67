"""A model choice → whatever answers requests: a warm model, or one that is loaded here."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import terminal, weights
from .errors import ModelError
from .schema import Event, ImagineRequest, ModelChoice, UnderstandRequest

if TYPE_CHECKING:
    from .client import Warm
    from .options import RayOptions

Request = UnderstandRequest | ImagineRequest
Answering = Callable[[Request], Iterator[Event]]


@dataclass(frozen=True)
class Model:
    """Which model answers, and where."""

    path: Path
    choice: ModelChoice
    warm: Warm | None = None


def find_model(choice: ModelChoice) -> Model:
    """The model that is meant, warm or not; whoever did not choose one is told which one it is."""
    path = weights.find_model(choice.model) if choice.model else None
    warm = _find_warm(choice, path)
    if warm is None:
        return Model(path or find_path(choice), choice)
    if path is None:
        _tell(warm.name)
    return Model(Path(warm.path), choice, warm)


def find_path(choice: ModelChoice) -> Path:
    """The folder of the model that is meant; whoever did not choose one is told which one it is."""
    if choice.model:
        return weights.find_model(choice.model)
    from .catalog import choose_largest

    name = choose_largest(choice.device)
    _tell(name)
    return weights.find_model(name)


def _tell(name: str) -> None:
    """Say which model answers, where somebody sees it."""
    if terminal.is_terminal(sys.stderr):
        chosen = f"{name} answers, the largest model that fits; --model takes another"
        terminal.say(weights.EMBEDDED_NOTICE if name == weights.EMBEDDED else chosen)


def _find_warm(choice: ModelChoice, path: Path | None) -> Warm | None:
    """A warm model, where there can be one; a place that cannot be trusted, or made, holds none."""
    if not _can_be_warm(choice):
        return None
    from . import client

    try:
        return client.find(choice, path)
    except ModelError:
        return None  # `janus ps` says why


def open_model(model: Model, request: Request, cluster: RayOptions | None = None) -> Answering:
    """What runs requests like this one: a cluster, if one is to; a warm model; or the parts that it
    needs, loaded here."""
    if cluster and cluster.ray:
        from . import pool

        workers = cluster.ray_workers
        return functools.partial(pool.run, model=model.path, choice=model.choice, workers=workers)
    warm = _warmed(model, request)
    if warm is None:
        return _load(model, request)

    def answer(request: Request) -> Iterator[Event]:
        from .client import Gone

        try:
            return warm.run(request)
        except Gone:
            return _load(model, request)(request)

    return answer


def _warmed(model: Model, request: Request) -> Warm | None:
    """The warm model, which JANUS_KEEP_ALIVE starts."""
    from . import client

    keep_alive = os.environ.get("JANUS_KEEP_ALIVE", "")
    if not _can_be_warm(model.choice) or not client.can_be_sent(request):
        return None
    if model.warm is None and keep_alive not in ("", "0"):
        return client.start(model.choice, model.path, keep_alive)
    return model.warm


def _can_be_warm(choice: ModelChoice) -> bool:
    return choice.backend == "janus" and hasattr(os, "getuid")


def _load(model: Model, request: Request) -> Answering:
    """Load the parts that draw or those that read; say what is not as one would expect."""
    from .engine.load import open_engine

    drawing = isinstance(request, ImagineRequest)
    engine = open_engine(model.path, model.choice, vision=not drawing, drawing=drawing)
    for note in engine.notes:
        terminal.say(note)
    if drawing:
        from .imagine import run as draw

        return functools.partial(draw, engine=engine)
    from .understand import run as answer

    return functools.partial(answer, engine=engine)
