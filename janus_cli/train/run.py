"""A request to train, from the checkpoint it begins with to the folder it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import weights
from ..engine.checkpoint import name_of
from ..engine.machine import choose_device
from ..errors import ModelError
from . import keeping
from .board import open_board, show_on
from .codes import codes_of_drawings
from .folder import Folder
from .lessons import Source
from .loop import Record, Settings, Trainer
from .plan import (
    attach,
    choose_length,
    choose_mixture,
    make_settings,
    open_sources,
    require_learner,
)
from .pool import Pool
from .pupil import Pupil, open_pupil
from .request import RANK, WORLD, TrainRequest
from .result import write_adapter, write_model
from .sequences import Scribe
from .stages import STAGES
from .stream import Course
from .world.source import World

SAVE_SECONDS = 600
LOST = "DataLoader worker"


@dataclass
class Run:
    """A run that is ready to begin, or to go on."""

    request: TrainRequest
    path: Path
    pupil: Pupil
    trainer: Trainer
    course: Course
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What the user ought to know before it begins."""

    @property
    def folder(self) -> Path:
        return Path(self.request.output)

    def go(self) -> Generator[tuple[Record, tuple[str, ...]]]:
        """Train; what each step did, and the complaints on its way. However it ends, it can be
        resumed from its last whole step.

        Raises:
            JanusError: it cannot go on.
        """
        trainer, saved = self.trainer, time.monotonic()
        if self.request.force:  # a run that lay here before is not to be resumed for this one
            (self.folder / keeping.INSIDE / keeping.STATE).unlink(missing_ok=True)
        materials = self.course.stream(len(trainer.records), workers=self.request.workers)
        board = open_board(self.folder / keeping.INSIDE) if self.request.tensorboard else None
        try:
            for record, complaints in trainer.run(materials):
                if board is not None:
                    show_on(board, record)
                yield record, complaints
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        except RuntimeError as error:
            if LOST not in str(error):  # torch says so wherever the loop is at that moment
                raise
            raise ModelError(
                "a process that reads the data was ended from outside, as when memory is short; "
                "go on with --resume, where it happens again with --workers 0"
            ) from error
        finally:
            if board is not None:
                board.close()
            if trainer.whole and trainer.records:
                self.save()

    def save(self) -> None:
        keeping.save(self.folder, self.trainer, self.facts)

    def finish(self) -> None:
        """Write what has been trained, as a model or as an adapter."""
        if self.request.adapter:
            write_adapter(self.pupil.model, self.path, self.folder)
            return
        pupil = self.pupil
        write_model(pupil.model, pupil.writer, pupil.checkpoint, self.folder, dtype=pupil.dtype)


def open_run(request: TrainRequest, pool: Path | None = None) -> tuple[Run, list[str]]:
    """Load a model and its data for a request; the run, and complaints about the data.

    Args:
        pool: what `write_pool` wrote with the encoders of that model, to learn from instead.

    Raises:
        JanusError: something that was asked for is not there, or does not go together.
    """
    folder = Path(request.output)
    path = weights.find_model(request.model)
    models = (path, weights.find_model(weights.EMBEDDED))
    keeping.refuse(folder, models, resume=request.resume, force=request.force)
    keeping.try_out(folder)
    device = choose_device(request.device)
    pupil = open_pupil(path, device)
    complaints: list[str] = []
    sources = open_sources(request, pupil, complaints.append)
    if pool is not None:
        sources = [Pool(source, pool) for source in sources if isinstance(source, World)]
    stage, notes = STAGES[request.stage], []
    mixture = choose_mixture(request, stage, sources)
    if not request.mixture and mixture != stage.mixture:
        notes.append(
            f"the data has no other kinds, so they are mixed {mixture}, not {stage.mixture}"
        )
    require_learner(request, stage, mixture)
    length = choose_length(request, pupil, mixture, device)
    attach(request, stage, pupil.model)
    settings = make_settings(request, stage, device)
    encode = None
    if mixture.generation and any(isinstance(s, World) and not s.stamps for s in sources):
        encode = codes_of_drawings(pupil.model.vq)
    trainer = Trainer(pupil.model, pupil.preprocessing, settings, encode)
    scribe = Scribe(
        pupil.writer, pupil.model.config.image_tokens, length=length, masked=stage.masked
    )
    course = Course(
        sources, scribe, mixture, seed=request.seed, batch=request.batch, passes=request.accumulate
    )
    facts = facts_of(request, path, sources, settings, course)
    run = Run(request, path, pupil, trainer, course, facts, notes)
    if request.resume:
        keeping.restore(folder, trainer, facts)
    return run, complaints


def facts_of(
    request: TrainRequest, path: Path, sources: list[Source], settings: Settings, course: Course
) -> dict[str, Any]:
    """What a run that goes on has to share with the one that began, by the flags that say it."""
    return {
        "--model": name_of(path),
        "the folder of --model": str(path.resolve()),
        "--stage": request.stage,
        "--mixture": str(course.mixture),
        "--lora, --aligners": request.adapter,
        "--rank": (request.rank or RANK) if request.adapter == "lora" else None,
        "--batch": course.batch,
        "--length": course.scribe.length,
        "--rate": settings.rate,
        "--optimizer": settings.optimizer,
        "--seed": course.seed,
        "--precision": "bf16" if settings.bf16 else "fp32",
        "DATA": [s.digest if isinstance(s, Folder) else WORLD for s in sources],
    }
