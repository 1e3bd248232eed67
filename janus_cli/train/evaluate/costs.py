"""What a model costs: model time of an answer and of four pictures, and bytes on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ...engine.decode import Native, Sampling
from ...engine.interface import Engine
from ..world.render import render
from ..world.scene import sample_scene
from ..world.style import EVALUATION
from .drawings import draw
from .exams import answer
from .scores import Row, spent

ASK_BAR, DRAW_BAR, FOLDER_BAR = 1, 6, 20  # seconds, seconds, MB
RUNS = 5
PICTURES = 4


def measure_costs(engine: Engine, folder: Path, sampling: Sampling) -> list[Row]:
    """Times after one run that is not counted, and the size of the folder."""
    device = engine.model.device if isinstance(engine, Native) else torch.device("cpu")
    picture = render(sample_scene(0, text_share=0), EVALUATION)
    questions = iter(["how many objects are there?"] * (RUNS + 1))

    def ask() -> None:
        if isinstance(engine, Native):
            engine.past = None  # else the picture would be known from the run before
        answer(engine, [(picture, [next(questions)])], "ask", 1)

    def draw_four() -> None:
        prompts = ["a red circle and two blue squares on a white background"] * PICTURES
        draw(engine, prompts, range(PICTURES), sampling)

    return [
        spent(f"time of `ask` on {name_of(device)}", list(times(ask)), ASK_BAR),
        spent(
            f"time of {PICTURES} pictures on {name_of(device)}", list(times(draw_four)), DRAW_BAR
        ),
        size_of(folder),
    ]


def name_of(device: torch.device) -> str:
    """What a time was taken on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return device.type if device.type != "cpu" else f"{threads} thread{'s' * (threads > 1)}"


def times(work: Callable[[], None]) -> Iterator[float]:
    """Seconds of each counted run."""
    work()
    for _ in range(RUNS):
        begun = time.perf_counter()
        work()
        yield time.perf_counter() - begun


def size_of(folder: Path) -> Row:
    """Everything in a checkpoint's folder, in millions of bytes."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    return Row("folder", size, size, size, 1, FOLDER_BAR, "MB", at_most=True)
