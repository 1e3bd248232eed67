"""A model choice → whatever answers requests: the one place that decides where they are run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from . import terminal, weights
from .schema import Event, ImagineRequest, ModelChoice, UnderstandRequest

Request = UnderstandRequest | ImagineRequest
Answering = Callable[[Request], Iterator[Event]]


def find_model(choice: ModelChoice) -> Path:
    """The model's folder; whoever did not choose one is told which one it is."""
    if choice.model:
        return weights.find_model(choice.model)
    from .catalog import choose_largest

    name = choose_largest(choice.device)
    if terminal.is_terminal(sys.stderr):
        chosen = f"{name} answers, the largest model that fits; --model takes another"
        terminal.say(weights.EMBEDDED_NOTICE if name == weights.EMBEDDED else chosen)
    return weights.find_model(name)


def open_model(path: Path, choice: ModelChoice, *, drawing: bool) -> Answering:
    """Load the parts of a model that draw, or those that read pictures; what runs requests on it.

    How it is run is said where that is not as one would expect.
    """
    from .engine.load import open_engine

    engine = open_engine(path, choice, vision=not drawing, drawing=drawing)
    for note in engine.notes:
        terminal.say(note)
    if drawing:
        from .imagine import run as draw

        return functools.partial(draw, engine=engine)
    from .understand import run as answer

    return functools.partial(answer, engine=engine)
