"""How well a model of the small world answers and draws, as one markdown table.

Answers and pictures come from the engine, just as the program gets them; all scenes are held out.
The four pictures of one prompt are not quite independent, so intervals for drawings flatter a bit.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..engine.batch import Prompt
from ..engine.decode import Drawing, Sampling
from ..engine.load import Engine, open_engine
from ..engine.model import Janus
from ..schema import PRECISIONS, ModelChoice
from ..understand import DESCRIBE_QUESTIONS
from ..weights import EMBEDDED, find_model
from .captions import NUMBERS, caption, describe
from .checker import Seen, look, matches
from .data import TRAINING_SEEDS, to_pixels
from .joint_stage import DRAWING_LENGTH
from .losses import drawing_loss
from .questions import ASKERS, NO_TEXT, Pair
from .render import render
from .samples import DrawingMaker, Drawings
from .scene import BACKGROUNDS, COLORS, KINDS, PICTOGRAMS, Group, Scene, Thing, sample_scene
from .scores import Row, edit_distance, mean, share

ANSWER_TOKENS = 40
TRIES = 60  # questions drawn for one scene until one of the wanted sort comes
TOGETHER = 4  # pictures of one prompt, drawn at once
LOSS_CASES, LOSS_BATCH = 200, 10
CATEGORIES = ("single object", "two objects", "counting", "colors", "color attribution")
SHEET_PROMPTS = (
    "nebula corgi",
    "three penguins",
    "a red circle and two blue squares on a white background",
    "a yellow star on a black background",
    "a pink heart",
    "two corgis on a brown background",
    "a green triangle and a purple ring on a gray background",
    "a penguin in a nebula",
    "four orange circles on white",
    "a cyan square and a red heart on black",
    "a corgi and a penguin on a white background",
    "the word HELLO in blue",
)
THUMBNAIL, LINE, SHEET_BYTES = 128, 11, 150_000
GROUP = re.compile(
    rf"(an?|{'|'.join(NUMBERS)}) (?:({'|'.join(COLORS)}) )?({'|'.join((*KINDS, *PICTOGRAMS))})s?"
)


@dataclass(frozen=True)
class Exam:
    """One question of a sort for each scene; `wanted(question, answer, number)` picks the sort."""

    measure: str
    asker: str  # a key of ASKERS
    wanted: Callable[[str, str, int], bool] = lambda question, answer, number: True
    bar: int | None = None


EXAMS = (
    Exam("background", "background", bar=98),
    Exam("text color", "text", lambda question, answer, number: "col" in question),
    Exam("color", "color", bar=85),
    # Half the answers are yes, exactly.
    Exam("presence", "presence", lambda q, answer, number: answer == ("yes", "no")[number % 2], 80),
    Exam("number", "number", bar=60),
    Exam("position", "position"),
    Exam(
        "reading, whole string",
        "text",
        lambda question, answer, number: "col" not in question and answer != NO_TEXT,
    ),
    Exam("description, every group", "describe"),
)


# Answers


def pose(exam: Exam, cases: int) -> Iterator[tuple[Scene, Pair]]:
    """Scenes in the order of their seeds, each with one question and its answer."""
    posed = 0
    for seed in range(TRAINING_SEEDS):
        if posed == cases:
            return
        scene, rng = sample_scene(seed), random.Random(f"{exam.measure} {seed}")
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


def answer(engine: Engine, asked: Sequence[tuple[Scene, str]], measure: str) -> list[str]:
    """What the engine says to a question about each scene's picture, as understand.py asks it."""

    def prompts() -> Iterator[Prompt]:
        for number, (scene, question) in enumerate(asked):
            show(measure, number, len(asked))
            pixels = engine.preprocessing.fit(Image.fromarray(render(scene)))
            ids = engine.writer.conversation(1, [], question)
            yield Prompt(ids, pixels[None], max_tokens=ANSWER_TOKENS)

    said: list[list[int]] = [[] for _ in asked]
    for number, token in engine.write(prompts()):
        if token is not None:
            said[number].append(token)
    return [engine.writer.decode(tokens).strip() for tokens in said]


def examine(engine: Engine, exam: Exam, cases: int) -> list[Row]:
    """The rows of one exam."""
    posed = list(pose(exam, cases))
    asked = [(scene, question) for scene, (question, _) in posed]
    truths = [truth for _, (_, truth) in posed]
    given = list(zip(answer(engine, asked, exam.measure), truths, strict=True))
    if exam.asker == "describe":
        scores = [read_groups(said) == read_groups(truth) for said, truth in given]
    else:
        scores = [said == truth for said, truth in given]
    rows = [share(exam.measure, scores, exam.bar)]
    if exam.measure == "presence":
        rows.append(share("presence, answers that are yes", [said == "yes" for said, _ in given]))
    if exam.measure.startswith("reading"):
        read = [1 - min(1, edit_distance(said, truth) / len(truth)) for said, truth in given]
        rows.append(share("reading, characters", read))
    return rows


def read_groups(description: str) -> frozenset[Group] | None:
    """The groups that a description of normal length names; None for words it never has."""
    listing = re.sub(rf" on a ({'|'.join(BACKGROUNDS)}) background$", "", description)
    found = [GROUP.fullmatch(part) for part in re.split(", | and ", listing)]
    groups = [(1 if m[1] in ("a", "an") else NUMBERS.index(m[1]), m[2], m[3]) for m in found if m]
    named = {group[1:] for group in groups}
    return frozenset(groups) if len(named) == len(found) else None


# Drawings


@dataclass(frozen=True)
class Order:
    """A prompt, and the scene without places that it asks for."""

    category: str
    scene: Scene

    @property
    def prompt(self) -> str:
        return describe(self.scene, "normal")

    def filled_by(self, seen: Seen) -> bool:
        """Colors count where the category is about them, as in GenEval."""
        return matches(self.scene, seen, colors=self.category.startswith("color"))


def sample_order(number: int) -> Order:
    """Categories take turns; so many orders, so many different prompts."""
    category, rng = CATEGORIES[number % len(CATEGORIES)], random.Random(f"order {number}")
    kinds = rng.sample(KINDS if "color" in category else (*KINDS, *PICTOGRAMS), 2)
    colors = rng.sample(COLORS, 2)
    times = rng.randint(2, 5) if category == "counting" else 1
    groups = 2 if category in ("two objects", "color attribution") else 1
    things = [
        Thing(kind, None if kind in PICTOGRAMS else color, 0, 0, 0, 0.0)
        for kind, color in list(zip(kinds, colors, strict=True))[:groups] * times
    ]
    return Order(category, Scene(rng.choice(BACKGROUNDS), tuple(things), (), number))


def draw(engine: Engine, prompt: str, seeds: Sequence[int], guidance: float) -> list[np.ndarray]:
    """Pictures (384, 384, 3) of one prompt, as imagine.py asks for them."""
    ids = engine.writer.drawing(prompt, engine.image_tokens)
    other = engine.writer.unconditional(ids)
    drawings = [Drawing(ids, other, seed) for seed in seeds]
    columns = list(engine.draw(drawings, Sampling(guidance=guidance)))
    return list(engine.paint(torch.stack(columns, dim=1)).numpy())


def judge_drawings(engine: Engine, drawings: int, guidance: float) -> list[Row]:
    """A row for each category, one for all of them and one for the backgrounds."""
    right: dict[str, list[bool]] = {}
    grounds = []
    for number in range(math.ceil(drawings / TOGETHER)):
        show("drawings", number * TOGETHER, drawings)
        order = sample_order(number)
        seeds = range(number * TOGETHER, min(drawings, (number + 1) * TOGETHER))
        for picture in draw(engine, order.prompt, seeds, guidance):
            seen = look(picture)
            right.setdefault(order.category, []).append(order.filled_by(seen))
            grounds.append(seen.background == order.scene.background)
    rows = [share(f"drawn: {name}", scores) for name, scores in right.items()]
    rows.append(share("drawn: overall", [score for scores in right.values() for score in scores]))
    return [*rows, share("drawn: background", grounds, 90)]


@torch.no_grad()
def code_losses(engine: Engine, cases: int) -> list[Row]:
    """Loss per code of held-out pictures with the right, a wrong and no caption."""
    model, writer = engine.model, engine.writer
    assert isinstance(model, Janus)
    maker = DrawingMaker(writer, simple=0)
    scenes = [sample_scene(seed, text_share=0.06) for seed in range(cases)]
    right = [writer.drawing(caption(s, random.Random(f"caption {s.seed}"))) for s in scenes]
    captions = {
        "right": right,
        "wrong": right[1:] + right[:1],
        "no": [writer.unconditional(ids) for ids in right],
    }
    losses: dict[str, list[float]] = {name: [] for name in captions}
    for start in range(0, cases, LOSS_BATCH):
        show("losses", start, cases)
        span = slice(start, start + LOSS_BATCH)
        pictures = [torch.from_numpy(render(scene)) for scene in scenes[span]]
        codes = model.vq.encode(to_pixels(torch.stack(pictures)).to(model.dtype)).flatten(1)
        for name, ids in captions.items():
            batch: Drawings = maker.collate(list(zip(pictures, ids[span], strict=True)))
            losses[name] += drawing_loss(model, codes, batch, length=DRAWING_LENGTH).tolist()
    rows = [mean(f"loss per code, {name} caption", values) for name, values in losses.items()]
    # Pictures differ in loss far more than captions do, so the captions are compared picture by
    # picture.
    pairs = zip(losses["wrong"], losses["right"], strict=True)
    return [*rows, mean("loss per code, wrong less right", [w - r for w, r in pairs])]


def draw_sheet(engine: Engine, guidance: float, file: Path) -> None:
    """A contact sheet of one drawing for each of the fixed prompts, the prompt under it."""
    across, down = 4, math.ceil(len(SHEET_PROMPTS) / 4)
    high, font = THUMBNAIL + 3 * LINE, ImageFont.load_default(9)
    sheet = Image.new("RGB", (across * (THUMBNAIL + 4), down * (high + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, prompt in enumerate(SHEET_PROMPTS):
        show("sheet", number, len(SHEET_PROMPTS))
        (picture,) = draw(engine, prompt, [0], guidance)
        small = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        left, top = number % across * (THUMBNAIL + 4) + 2, number // across * (high + 4) + 2
        sheet.paste(small, (left, top))
        lines = [""]
        for word in prompt.split():
            if font.getlength(f"{lines[-1]} {word}") > THUMBNAIL:
                lines.append("")
            lines[-1] += f" {word}" if lines[-1] else word
        for index, line in enumerate(lines):
            pen.text((left, top + THUMBNAIL + index * LINE), line, "black", font)
    for colors in (256, 128, 64, 32, 16):
        sheet.quantize(colors).save(file, "PNG", optimize=True)
        if file.stat().st_size < SHEET_BYTES:
            return


# Command


def show(label: str, done: int, total: int) -> None:
    """One line of progress, on a terminal only; an empty label wipes it."""
    if sys.stderr.isatty():
        line = f"{label} {done} of {total}" if label else ""
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def evaluate(arguments: argparse.Namespace) -> list[Row]:
    # The losses make their indices on the CPU.
    choice = ModelChoice(arguments.model, "cpu", arguments.precision)
    engine = open_engine(find_model(arguments.model), choice)
    rows: list[Row] = []
    if arguments.cases:
        rows += [row for exam in EXAMS for row in examine(engine, exam, arguments.cases)]
    if arguments.drawings:
        rows += judge_drawings(engine, arguments.drawings, arguments.guidance)
    if arguments.losses:
        rows += code_losses(engine, arguments.losses)
    if arguments.sheet:
        draw_sheet(engine, arguments.guidance, arguments.sheet)
    show("", 0, 0)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED, help="a checkpoint folder or a name")
    parser.add_argument("--cases", type=int, default=500, help="questions of each sort")
    parser.add_argument("--drawings", type=int, default=100, help="pictures in all")
    parser.add_argument("--losses", type=int, default=LOSS_CASES, help="pictures to take losses of")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--guidance", type=float, default=5)
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a sheet of drawings, PNG")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    table = evaluate(chosen)
    print("| measure | right | 95 % interval | cases | first bar |")
    print("|---|---:|---:|---:|---:|")
    for line in table:
        print(line.markdown())
    if chosen.json:
        used = {"model": chosen.model, "precision": chosen.precision, "guidance": chosen.guidance}
        report = {**used, "rows": [asdict(line) for line in table]}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
