"""Imagine: prompts to pictures. Picture i of a prompt depends on seed + i and on nothing else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import JanusError
from .schema import Event, Failure, ImagineRequest, Picture, Progress, Wish

if TYPE_CHECKING:
    from torch import Tensor

    from .engine.decode import Drawing, Sampling
    from .engine.interface import Engine


@dataclass(frozen=True)
class Task:
    """A picture to be drawn, of wish number `index`."""

    index: int
    wish: Wish
    drawing: Drawing
    sampling: Sampling


@dataclass(frozen=True)
class Count:
    """Pictures, and the steps that they take."""

    pictures: int = 0
    steps: int = 0

    def after(self, tasks: Sequence[Task], engine: Engine) -> Count:
        """With those of these tasks."""
        steps = sum(engine.steps(task.sampling) for task in tasks)
        return Count(self.pictures + len(tasks), self.steps + steps)


def run(request: ImagineRequest, engine: Engine) -> Iterator[Event]:
    """Draw the pictures of every wish, in the order of wishes and seeds.

    As many at once as memory allows, whatever their prompts; those drawn together share their
    sampling, so that some are drawn before their turn. A wish that cannot be drawn is a Failure,
    and the others go on; the only wish of a request fails with its error.
    """
    from .engine.machine import is_out_of_memory

    steps = plan(request, engine)
    waiting: dict[Sampling, deque[Task]] = {}
    for step in steps:
        if isinstance(step, Task):
            waiting.setdefault(step.sampling, deque()).append(step)
    ready: dict[Sampling, deque[Picture]] = {sampling: deque() for sampling in waiting}
    done = Count()
    total = done.after([step for step in steps if isinstance(step, Task)], engine)
    together = engine.most_pictures()
    for step in steps:
        if isinstance(step, Failure):
            yield step
            continue
        queue, painted = waiting[step.sampling], ready[step.sampling]
        while not painted:
            batch = [queue.popleft() for _ in range(min(together, len(queue)))]
            try:
                painted += yield from draw(batch, done, total, engine)
                done = done.after(batch, engine)
            except Exception as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
                together = len(batch) // 2
                queue.extendleft(reversed(batch))
        yield painted.popleft()


def plan(request: ImagineRequest, engine: Engine) -> list[Task | Failure]:
    """The pictures that are to be drawn, and the failures in the place of those that cannot be."""
    steps: list[Task | Failure] = []
    for index, wish in enumerate(request.wishes):
        try:
            steps += prepare(index, wish, engine)
        except JanusError as error:
            if len(request.wishes) == 1:
                raise
            steps.append(Failure(index, wish.prompt, str(error), type(error).__name__))
    return steps


def prepare(index: int, wish: Wish, engine: Engine) -> list[Task]:
    """The pictures of one wish; too long a prompt, or a setting it has no use for, fails here."""
    from .engine.decode import Drawing

    drawn = set(wish.drawn)
    left = [i for i in range(wish.count) if i not in drawn]
    if not left:
        return []
    writer = engine.writer
    ids = writer.drawing(wish.prompt, engine.image_tokens)
    other = writer.unconditional(ids)
    if wish.negative is not None:
        other = writer.drawing(wish.negative, engine.image_tokens, flag="--negative")
    sampling = engine.sampling(wish)
    return [Task(index, wish, Drawing(ids, other, wish.seed + i), sampling) for i in left]


def draw(
    tasks: Sequence[Task], done: Count, total: Count, engine: Engine
) -> Generator[Progress, None, list[Picture]]:
    """Draw pictures of one sampling together; `done` of the `total` of the run were drawn before.

    Progress is that of the run, in steps.
    """
    import torch

    label = counted(done.pictures, len(tasks), total.pictures)
    started = time.perf_counter()
    columns: list[Tensor] = []

    def progress() -> Progress:
        return Progress(label, done.steps + len(tasks) * len(columns), total.steps)

    yield progress()
    for column in engine.draw([task.drawing for task in tasks], tasks[0].sampling):
        columns.append(column)
        yield progress()
    painted = engine.paint(torch.stack(columns, dim=1))  # (pictures, H, W, 3)
    seconds = (time.perf_counter() - started) / len(tasks)
    return [
        picture(task, pixels, seconds, engine) for task, pixels in zip(tasks, painted, strict=True)
    ]


def picture(task: Task, pixels: Tensor, seconds: float, engine: Engine) -> Picture:
    """The finished picture, of pixels (H, W, 3)."""
    height, width, _ = pixels.shape
    wish, sampling = task.wish, task.sampling
    return Picture(
        index=task.index,
        prompt=wish.prompt,
        seed=task.drawing.seed,
        width=width,
        height=height,
        pixels=pixels.numpy().tobytes(),
        model=engine.name,
        precision=engine.precision,
        guidance=sampling.guidance,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        negative=wish.negative,
        seconds=seconds,
        steps=sampling.steps,
    )


def counted(done: int, count: int, total: int) -> str:
    """Which pictures of the run are being drawn, in words."""
    if total == 1:
        return "picture"
    if count == 1:
        return f"picture {done + 1} of {total}"
    return f"pictures {done + 1} to {done + count} of {total}"
