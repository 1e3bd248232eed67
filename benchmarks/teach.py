"""Teach the embedded model a color that it does not know, with `janus train --lora`.

200 pictures of the picture world with a color that is not in it, and twelve questions about each,
go into a JSONL file; fresh pictures of the world as it is are mixed in, so that nothing is
forgotten. What is right before and after is counted on held-out pictures. Needs the extra `train`.

    python benchmarks/teach.py --out /tmp/teal

A picture with the new color is one of the world in which one of the colors is painted in another
tone and called by another name, so that its questions and answers are those of the world.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from janus_cli.engine.interface import Engine
from janus_cli.engine.load import open_engine
from janus_cli.schema import ModelChoice
from janus_cli.train.data import TRAINING_SEEDS
from janus_cli.train.evaluate.exams import EXAMS, answer, examine
from janus_cli.train.evaluate.likelihood import measure_losses
from janus_cli.train.evaluate.scores import Row, share, table
from janus_cli.train.stamps import Stamps
from janus_cli.train.world.questions import Question, questions
from janus_cli.train.world.render import PALETTE, render
from janus_cli.train.world.scene import Scene, sample_scene
from janus_cli.train.world.style import EVALUATION, TRAINING, Style
from janus_cli.weights import EMBEDDED, find_model

COLOR, TONE = "teal", (0, 110, 110)  # which the embedded model takes for cyan, at times for green
PICTURES, QUESTIONS = 200, 12
OPTIONS = (
    *("--steps", "150", "--batch", "8", "--mixture", "4:0:1"),
    *("--rate", "2e-3", "--fall", "0.5"),
)
LOOKED_AT = 40  # questions to look among for one of a sort
SORTS: dict[str, Callable[[Question], bool]] = {
    f"{COLOR}: what color is it": lambda q: q.type == "color" and q.answer == COLOR,
    f"{COLOR}: how many are there": lambda q: q.type == "number" and COLOR in q.question,
    f"{COLOR}: is there one": lambda q: q.type == "presence" and COLOR in q.question,
}
"""Questions about what is new."""
OLD = ("color", "number", "presence", "position", "background", "reading, whole string")
LOSS = "loss per code, right caption"


@dataclass(frozen=True)
class Lesson:
    """A picture in which one color is the new one, and what is asked about it."""

    picture: np.ndarray
    questions: tuple[Question, ...]


def lessons(first: int, count: int, style: Style = TRAINING) -> Iterator[Lesson]:
    """So many lessons, of the scenes from seed `first` on that have a color to replace."""
    seed = first
    while count:
        scene, rng = sample_scene(seed, text_share=0), random.Random(f"teach {seed}")
        seed += 1
        colors = sorted({thing.color for thing in scene.things if thing.color})
        if colors:
            yield lesson(scene, rng.choice(colors), rng, style)
            count -= 1


def lesson(scene: Scene, replaced: str, rng: random.Random, style: Style = TRAINING) -> Lesson:
    """A scene in which one color is the new one."""
    with mock.patch.dict(PALETTE, {replaced: TONE}):
        picture = render(scene, style)
    asked = questions(scene, rng, LOOKED_AT)
    renamed = [
        Question(q.question.replace(replaced, COLOR), q.answer.replace(replaced, COLOR), q.type)
        for q in asked
    ]
    return Lesson(picture, tuple(renamed))


def write(folder: Path) -> Path:
    """The pictures and their questions as `janus train` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, taught in enumerate(lessons(TRAINING_SEEDS, PICTURES)):
        name = f"{number:03}.png"
        Image.fromarray(taught.picture).save(folder / name)
        for asked in taught.questions[:QUESTIONS]:
            line = {"image": name, "question": asked.question, "answer": asked.answer}
            lines.append(json.dumps(line) + "\n")
    (folder / "lessons.jsonl").write_text("".join(lines))
    return folder / "lessons.jsonl"


def train(file: Path, adapter: Path, options: Sequence[str]) -> None:
    command = [sys.executable, "-m", "janus_cli", "train", str(file), "world", "--lora"]
    command += ["--model", EMBEDDED, "--device", "cpu", "-o", str(adapter), *options]
    subprocess.run(command, check=True)


def measure(engine: Engine, cases: int) -> list[Row]:
    """What is right of the new, and of the old."""
    rows = []
    for name, wanted in SORTS.items():
        posed = list(pick(wanted, cases))
        said = answer(engine, ((picture, [q.question]) for picture, q in posed), name, cases)
        right = [one == q.answer for [one], (_, q) in zip(said, posed, strict=True)]
        rows.append(share(name, right))
    for exam in EXAMS:
        if exam.measure in OLD:
            rows.append(replace(examine(engine, exam, cases)[0], bar=None))
    losses = measure_losses(engine, cases, Stamps.find(find_model(EMBEDDED)))
    return rows + [row for row in losses if row.measure == LOSS]


def pick(wanted: Callable[[Question], bool], cases: int) -> Iterator[tuple[np.ndarray, Question]]:
    """So many held-out pictures, with one question of a sort each."""
    posed = 0
    for taught in lessons(0, TRAINING_SEEDS, EVALUATION):
        found = next(filter(wanted, taught.questions), None)
        if found:
            yield taught.picture, found
            posed += 1
        if posed == cases:
            return


def open_taught(adapter: Path | None = None) -> Engine:
    """The embedded model, as it is or with the adapter."""
    choice = ModelChoice(device="cpu", adapter=str(adapter) if adapter else None)
    return open_engine(find_model(EMBEDDED), choice)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for all of it")
    parser.add_argument("--cases", type=int, default=200, help="pictures of each measure")
    parser.add_argument(
        "train", nargs="*", default=OPTIONS, help="options of janus train, after --"
    )
    arguments = parser.parse_args()
    file, adapter = write(arguments.out / "data"), arguments.out / COLOR
    before = measure(open_taught(), arguments.cases)
    started = time.perf_counter()
    train(file, adapter, arguments.train)
    print(f"{' '.join(arguments.train)}: {(time.perf_counter() - started) / 60:.1f} min\n")
    after = measure(open_taught(adapter), arguments.cases)
    print(table({"before": before, f"with {COLOR}": after}))


if __name__ == "__main__":
    main()
