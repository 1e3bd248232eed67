"""Exams: questions about held-out pictures, posed to an engine as the program poses them, scored.

The pictures have seeds below TRAINING_SEEDS and evaluation's style; see style.py.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...engine.batch import Prompt
from ...engine.interface import Engine
from ...understand import DESCRIBE_QUESTIONS
from ..data import TRAINING_SEEDS
from ..world.captions import NUMBERS, describe
from ..world.questions import ASKERS, NO_TEXT, Pair
from ..world.render import render
from ..world.scene import BACKGROUNDS, COLORS, KINDS, PICTOGRAMS, Group, Scene, sample_scene
from ..world.style import EVALUATION, UNSEEN, Style, unseen_fonts
from .progress import show
from .scores import Row, edit_distance, share

ANSWER_TOKENS = 40
TRIES = 60  # questions drawn for one scene until one of the wanted sort comes
GROUP = re.compile(
    rf"(an?|{'|'.join(NUMBERS)}) (?:({'|'.join(COLORS)}) )?({'|'.join((*KINDS, *PICTOGRAMS))})s?"
)


@dataclass(frozen=True)
class Exam:
    """One question of a sort for each scene; `wanted(question, answer, number)` picks the sort."""

    measure: str
    asker: str  # a key of ASKERS
    wanted: Callable[[str, str, int], bool] = lambda question, answer, number: True
    bar: float | None = None
    style: Style = EVALUATION


def asks_color(question: str, answer: str, number: int) -> bool:
    return "col" in question


def asks_string(question: str, answer: str, number: int) -> bool:
    return not asks_color(question, answer, number) and answer != NO_TEXT


def takes_turns(question: str, answer: str, number: int) -> bool:
    """Half the answers are yes, exactly."""
    return answer == ("yes", "no")[number % 2]


EXAMS = (
    Exam("background", "background", bar=98),
    Exam("color", "color", bar=98),
    Exam("presence", "presence", takes_turns, bar=98),
    Exam("number", "number", bar=95),
    Exam("position", "position", bar=95),
    Exam("description, every group", "describe", bar=90),
    Exam("text color", "text", asks_color),
    Exam("reading, whole string", "text", asks_string, bar=85),
    Exam("reading in unseen fonts, whole string", "text", asks_string, bar=85, style=UNSEEN),
)
CHARACTERS_BAR = 96


def possible_exams() -> list[Exam]:
    """Those whose fonts this machine has."""
    return [exam for exam in EXAMS if not exam.style.unseen_fonts or unseen_fonts()]


def pose(exam: Exam, cases: int) -> Iterator[tuple[Scene, Pair]]:
    """Scenes in the order of their seeds, each with one question and its answer."""
    posed = 0
    for seed in range(TRAINING_SEEDS):
        if posed == cases:
            return
        scene, rng = sample_scene(seed), random.Random(f"{exam.asker} {seed}")
        if exam.asker != "background" and bool(scene.texts) != (exam.asker == "text"):
            continue  # a scene has either a text or things
        if exam.asker == "describe":
            pairs: Iterable[Pair | None] = [
                (DESCRIBE_QUESTIONS["normal"], describe(scene, "normal"))
            ]
        else:
            pairs = (ASKERS[exam.asker][0](scene, rng) for _ in range(TRIES))
        pair = next((pair for pair in pairs if pair and exam.wanted(*pair, posed)), None)
        if pair:
            posed += 1
            yield scene, pair


def examine(engine: Engine, exam: Exam, cases: int) -> list[Row]:
    """The rows of one exam."""
    posed = list(pose(exam, cases))
    asked = ((render(scene, exam.style), [question]) for scene, (question, _) in posed)
    said = [answers[0] for answers in answer(engine, asked, exam.measure, cases)]
    return score(exam, said, [truth for _, (_, truth) in posed])


def answer(
    engine: Engine, asked: Iterable[tuple[np.ndarray, Sequence[str]]], label: str, total: int
) -> list[list[str]]:
    """What the engine says to the questions about each picture, as understand.py asks them.

    Args:
        asked: pictures (384, 384, 3) uint8, each with its questions; taken when there is room.
        label, total: what progress calls the pictures, and how many there are.
    """
    said: list[list[list[int]]] = []  # tokens of each answer about each picture
    places: list[list[int]] = []  # of the same answers, in the order of the prompts

    def prompts() -> Iterator[Prompt]:
        for picture, questions in asked:
            show(label, len(said), total)
            said.append([[] for _ in questions])
            pixels = engine.preprocessing.fit(Image.fromarray(picture))[None]
            for tokens, question in zip(said[-1], questions, strict=True):
                places.append(tokens)
                ids = engine.writer.conversation(1, [], question)
                yield Prompt(ids, pixels, max_tokens=ANSWER_TOKENS)

    for number, token in engine.write(prompts()):
        if token is not None:
            places[number].append(token)
    return [[engine.writer.decode(tokens).strip() for tokens in picture] for picture in said]


def score(exam: Exam, said: Sequence[str], truths: Sequence[str]) -> list[Row]:
    """Answers beside the right ones, of which presence has as many yes as no."""
    given = list(zip(said, truths, strict=True))
    if exam.asker == "describe":
        return [share(exam.measure, [read_groups(a) == read_groups(b) for a, b in given], exam.bar)]
    rows = [share(exam.measure, [a == b for a, b in given], exam.bar)]
    if exam.asker == "presence":
        rows.append(share("presence, answers that are yes", [a == "yes" for a in said]))
    if exam.wanted is asks_string:
        read = [1 - min(1, edit_distance(a, b) / len(b)) for a, b in given]
        measure = exam.measure.replace("whole string", "characters")
        rows.append(share(measure, read, CHARACTERS_BAR))
    return rows


def read_groups(description: str) -> frozenset[Group] | None:
    """The groups that a description of normal length names; None for words it never has."""
    listing = re.sub(rf" on a ({'|'.join(BACKGROUNDS)}) background$", "", description)
    found = [GROUP.fullmatch(part) for part in re.split(", | and ", listing)]
    groups = [(1 if m[1] in ("a", "an") else NUMBERS.index(m[1]), m[2], m[3]) for m in found if m]
    named = {group[1:] for group in groups}
    return frozenset(groups) if len(named) == len(found) else None
