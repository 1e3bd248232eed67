"""The command that trains a model."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import flags, terminal, train_flags, weights
from .errors import ExitCode, ModelError
from .options import spread
from .progress import ProgressLine, in_words
from .train.request import TrainRequest

if TYPE_CHECKING:
    from .train.loop import Trainer

SHOWN = 20  # steps whose mean losses are shown


@spread
def train(
    options: train_flags.TrainOptions,
    data: train_flags.Data = None,
    model: flags.Model = None,
    output: train_flags.Output = None,
    device: flags.Device = "auto",
) -> int:
    """Train a model on pictures of your own, and print the folder of the result.

    DATA is a JSONL file, or a folder that holds some. A line is {"image": "a.png", "question":
    "...", "answer": "..."}, {"image": "a.png", "caption": "..."} to draw from, {"question": "...",
    "answer": "..."} without a picture, or {"text": "..."}. "world" is the picture world that the
    embedded model knows, which is also what it learns from where there is no DATA. A run that was
    interrupted goes on with --resume, as if it had not been.
    """
    kind = options.adapter or "trained"
    folder = output or str(weights.shelf() / f"{_base_name(model)}-{kind}")
    request = options.request(data=tuple(data or ()), output=folder, model=model, device=device)
    complaints = _train(request)
    terminal.write_path(folder)
    if terminal.is_terminal(sys.stderr):
        taken = [*(["--model", model] if model else []), "--adapter", folder]
        named = shlex.join(taken if request.adapter else ["--model", folder])
        terminal.say(f'use it so: janus ask {named} photo.jpg "what is this?"')
    if not complaints:
        return ExitCode.OK
    terminal.say(f"{len(complaints)} lines or pictures were left out")
    return ExitCode.INPUT


def _train(request: TrainRequest) -> set[str]:
    """Train and write the result; every complaint about the data, said once."""
    said: set[str] = set()
    with ProgressLine("loading") as progress, _memory_named():
        from .train.run import open_run

        def complain(text: str) -> None:
            if text not in said:
                progress.hide()
                terminal.say(text)
                said.add(text)

        run, complaints = open_run(request)
        for text in (*complaints, *run.notes):
            complain(text)
        said -= set(run.notes)
        with contextlib.closing(run.go()) as steps:
            for _, left_out in steps:
                for text in left_out:
                    complain(text)
                progress.show(_label(run.trainer), int(1000 * run.trainer.done), 1000)
        progress.show("writing")
        run.finish()
    return said


def _label(trainer: Trainer) -> str:
    """`step 120, words 0.52, codes 1.02, 3.1 steps a second, 5 min left`."""
    parts = [f"step {len(trainer.records)}"]
    for name in ("words", "codes"):
        losses = [getattr(record, name) for record in trainer.records[-SHOWN:]]
        there = [loss for loss in losses if loss is not None]
        parts += [f"{name} {sum(there) / len(there):.3f}"] if there else []
    seconds = max(trainer.seconds, 1e-9)
    pace = len(trainer.records) / seconds
    parts.append(f"{pace:.1f} steps a second" if pace >= 1 else f"{60 * pace:.1f} steps a minute")
    if trainer.done < 1:
        parts.append(f"{in_words(seconds * (1 / trainer.done - 1))} left")
    return ", ".join(parts)


@contextlib.contextmanager
def _memory_named() -> Iterator[None]:
    """What to do about too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        from .engine.machine import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise ModelError(
            "out of memory; raise --accumulate, lower --length, or train an adapter with --lora"
        ) from error


def _base_name(model: str | None) -> str:
    """What the name of the result begins with."""
    if model is None:
        return weights.EMBEDDED
    return Path(model).resolve().name if Path(model).is_dir() else Path(model).name
