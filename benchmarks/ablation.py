"""What each part of the recipe is worth, in the small world: one command, one table.

    python benchmarks/ablation.py --steps 2000 --device cuda --batch 64 --workers 8
    python benchmarks/ablation.py --steps 24 --batch 6 --cases 8 --drawings 4 --losses 8
    python benchmarks/ablation.py --parts guidance temperature precision

Guidance, temperature and precision are settings of one model. Stage I and the mixture of Stage III
are trained: around the encoders of that model, everything else from nothing, and words alone first,
as the papers begin with a language model. A model without Stage I has as many steps in Stage II
instead. Rates and optimizer are those of a small model that starts from nothing, on both sides.

Every figure has its 95 % interval and its cases: pictures that were judged, each of an order of its
own; questions about number, color, presence and position; pictures whose codes were foretold.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from start import machine

from janus_cli.engine.decode import Sampling
from janus_cli.engine.load import Engine, open_engine
from janus_cli.engine.machine import choose_device
from janus_cli.schema import ModelChoice
from janus_cli.train import recipe
from janus_cli.train.evaluate.drawings import draw_orders, overall
from janus_cli.train.evaluate.exams import EXAMS, examine
from janus_cli.train.evaluate.likelihood import measure_losses
from janus_cli.train.evaluate.progress import show
from janus_cli.train.evaluate.scores import Row, wilson
from janus_cli.train.pupil import open_pupil
from janus_cli.train.request import TrainRequest
from janus_cli.train.result import write_model
from janus_cli.train.run import open_run
from janus_cli.train.stamps import Stamps
from janus_cli.weights import EMBEDDED, find_model

PARTS = ("guidance", "temperature", "precision", "stages", "mixture")
GUIDANCES = (1, 1.25, 1.5, 2, 3, 4, 5, 6, 7, 8)
TEMPERATURES = (0, 0.5, 0.8, 1, 1.2)
PRECISIONS = ("fp32", "bf16", "int8", "int4")
ASKED = ("number", "color", "presence", "position")
MIXTURES = ("7:3:10", "5:1:4")  # of Stage III: Janus, Janus-Pro
RATES = {"words": 2e-3, "1": 2e-3, "2": 2e-3, "3": 1e-3}
SHARES = {"words": 0.25, "1": 0.25, "2": 0.5, "3": 0.25}  # of --steps or --minutes
FALL = 0.2  # of every stage, in which the rate falls to nothing


@dataclass(frozen=True)
class Line:
    """One line of the table; None is a figure that was not taken."""

    part: str
    setting: str
    figures: tuple[Row | None, ...]

    def __str__(self) -> str:
        cells = (f"{row.figure} of {row.cases}" if row else "" for row in self.figures)
        return f"| {self.part} | {self.setting} | {' | '.join(cells)} |"


class Examiner:
    """Takes the figures of models, of so many cases each."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = find_model(options.model)
        self.engine = self.open(self.folder)
        self.guidance = self.engine.guidance
        """That of the model, for whatever does not vary it."""

    def open(self, folder: Path, precision: str = "auto") -> Engine:
        return open_engine(folder, ModelChoice(str(folder), self.options.device, precision))

    def drawn(self, engine: Engine, sampling: Sampling) -> Row | None:
        """Pictures that are what was ordered."""
        if not self.options.drawings:
            return None
        return overall("", list(draw_orders(engine, self.options.drawings, sampling)))

    def answered(self, engine: Engine) -> Row | None:
        """Questions of four sorts, as many of each."""
        if not self.options.cases:
            return None
        exams = [exam for exam in EXAMS if exam.measure in ASKED]
        rows = [examine(engine, exam, self.options.cases)[0] for exam in exams]
        value, cases = sum(row.value for row in rows) / len(rows), sum(row.cases for row in rows)
        return Row("", value, *wilson(value, cases), cases)

    def loss(self, engine: Engine) -> Row | None:
        """Loss per code, with the right caption."""
        if not self.options.losses:
            return None
        return measure_losses(engine, self.options.losses, Stamps.find(self.folder))[0]

    def all(self, folder: Path, precision: str = "auto") -> tuple[Row | None, ...]:
        engine = self.open(folder, precision)
        return self.drawn(engine, Sampling(self.guidance)), self.answered(engine), self.loss(engine)

    def settings(self, parts: list[str]) -> Iterator[Line]:
        """Everything that is a setting of one model."""
        known: dict[Sampling, Row | None] = {}
        guidances = [Sampling(guidance=scale) for scale in GUIDANCES]
        temperatures = [Sampling(self.guidance, heat) for heat in TEMPERATURES]
        for part, samplings in (("guidance", guidances), ("temperature", temperatures)):
            for sampling in samplings if part in parts else ():
                if sampling not in known:
                    known[sampling] = self.drawn(self.engine, sampling)
                yield Line(part, f"{getattr(sampling, part):g}", (known[sampling], None, None))
        for precision in PRECISIONS if "precision" in parts else ():
            yield Line("precision", precision, self.all(self.folder, precision))


class Course:
    """Models that are trained to be compared, stage after stage, in a folder."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options, self.place = options, place

    def learn(
        self, name: str, model: Path, stage: str, more: float = 0, mixture: str | None = None
    ) -> Path:
        """The folder of a model after one more stage; `more` adds to the stage's share."""
        options, share = self.options, SHARES[stage] + more
        request = TrainRequest(
            data=(),
            output=str(self.place / name),
            model=str(model),
            stage=stage,
            mixture=mixture,
            steps=round(share * options.steps) if options.steps else None,
            minutes=share * options.minutes if options.minutes else None,
            batch=options.batch,
            rate=RATES[stage],
            fall=FALL,
            optimizer="muon",
            device=options.device,
            workers=options.workers,
        )
        run, _ = open_run(request)
        for record, _ in run.go():
            show(f"{name}, step", record.step)
        run.finish()
        return run.folder

    @cached_property
    def beginner(self) -> Path:
        """A model that has its encoders, and a decoder that knows words."""
        pupil = open_pupil(find_model(self.options.model), torch.device("cpu"))
        ready = [
            (part, {k: v.clone() for k, v in part.state_dict().items()})
            for part in (pupil.model.vision, pupil.model.vq)
        ]
        torch.manual_seed(0)
        recipe.initialise(pupil.model)
        for part, state in ready:
            part.load_state_dict(state)
        blank = self.place / "blank"
        write_model(pupil.model, pupil.writer, pupil.checkpoint, blank, dtype=pupil.dtype)
        return self.learn("words", blank, "words")

    @cached_property
    def second(self) -> Path:
        """After Stage I and Stage II."""
        return self.learn("second", self.learn("first", self.beginner, "1"), "2")

    @cached_property
    def third(self) -> Path:
        """After all three, with Janus-Pro's mixture."""
        return self.learn("third", self.second, "3", mixture=MIXTURES[1])

    @cached_property
    def shortened(self) -> Path:
        """The same without Stage I."""
        second = self.learn("second only", self.beginner, "2", more=SHARES["1"])
        return self.learn("shortened", second, "3", mixture=MIXTURES[1])

    @cached_property
    def mixed(self) -> Path:
        """After all three, with Janus's mixture."""
        return self.learn("mixed", self.second, "3", mixture=MIXTURES[0])

    def lines(self, examiner: Examiner, parts: list[str]) -> Iterator[Line]:
        """Everything that is trained."""
        whole = examiner.all(self.third)
        if "stages" in parts:
            yield Line("stages", "I, II, III", whole)
            yield Line("stages", "II, III", examiner.all(self.shortened))
        if "mixture" in parts:
            yield Line("mixture", MIXTURES[0], examiner.all(self.mixed))
            yield Line("mixture", MIXTURES[1], whole)


def lines(examiner: Examiner, options: argparse.Namespace) -> Iterator[Line]:
    """The table, line by line."""
    yield from examiner.settings(options.parts)
    if {"stages", "mixture"} & set(options.parts):
        with tempfile.TemporaryDirectory() as name:
            yield from Course(options, Path(name)).lines(examiner, options.parts)


def main() -> None:
    """Measure every part and print the table, each line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=EMBEDDED, help="a checkpoint of the small world")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--drawings", type=int, default=300, help="pictures for each line")
    parser.add_argument("--cases", type=int, default=100, help="questions of each of four sorts")
    parser.add_argument("--losses", type=int, default=100, help="pictures to take losses of")
    parser.add_argument("--steps", type=int, help="of the three stages together")
    parser.add_argument("--minutes", type=float, help="the same in time")
    parser.add_argument("--batch", type=int, default=16, help="lessons a step")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw lessons")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not (options.steps or options.minutes) and {"stages", "mixture"} & set(options.parts):
        parser.error("stages and mixture are trained: say --steps or --minutes")
    trained = f"{options.steps} steps" if options.steps else f"{options.minutes} minutes"
    taught = {"stages", "mixture"} & set(options.parts)
    print(f"{machine()}; {options.model} on {choose_device(options.device)}", end="")
    examiner = Examiner(options)
    print(
        f", guidance {examiner.guidance:g}"
        + (f", {trained} of {options.batch} lessons" if taught else "")
    )
    print("\n| part | setting | drawn as ordered | answered right | loss per code |")
    print("|---|---|---:|---:|---:|")
    for line in lines(examiner, options):
        show("")
        print(line, flush=True)


if __name__ == "__main__":
    main()
