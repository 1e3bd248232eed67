"""Imagine: a prompt to pictures. Picture i of a prompt depends on seed + i and on nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .schema import Event, ImagineRequest, Picture, Progress

if TYPE_CHECKING:
    from .engine.load import Engine

TOGETHER = 8  # pictures drawn at once, where memory allows


def run(request: ImagineRequest, engine: Engine) -> Iterator[Event]:
    """Draw `count` pictures of every prompt, in the order of prompts and seeds."""
    drawings = [prepare(prompt, request, engine) for prompt in request.prompts]
    together = min(TOGETHER, engine.most_pictures())
    for index, (ids, other) in enumerate(drawings):
        for first in range(0, request.count, together):
            last = min(first + together, request.count)
            seeds = range(request.seed + first, request.seed + last)
            label = counted(index * request.count + first, len(seeds), request)
            yield from draw(index, ids, other, seeds, label, request, engine)


def prepare(
    prompt: str, request: ImagineRequest, engine: Engine
) -> tuple[Sequence[int], Sequence[int]]:
    """Ids of a prompt and of what guidance moves away from; too long a prompt fails here."""
    ids = engine.writer.drawing(prompt, engine.image_tokens)
    if request.negative is None:
        return ids, engine.writer.unconditional(ids)
    return ids, engine.writer.drawing(request.negative, engine.image_tokens, flag="--negative")


def draw(
    index: int,
    ids: Sequence[int],
    other: Sequence[int],
    seeds: Sequence[int],
    label: str,
    request: ImagineRequest,
    engine: Engine,
) -> Iterator[Event]:
    """Pictures of one prompt, one for each seed, drawn together."""
    import torch

    from .engine.decode import Sampling

    sampling = Sampling(request.guidance, request.temperature, request.top_k, request.top_p)
    started = time.perf_counter()
    yield Progress(label, 0, engine.image_tokens)
    columns = []
    for codes in engine.draw(ids, other, seeds, sampling):
        columns.append(codes)
        yield Progress(label, len(columns), engine.image_tokens)
    pictures = engine.paint(torch.stack(columns, dim=1))  # (pictures, H, W, 3)
    seconds = (time.perf_counter() - started) / len(seeds)
    for seed, pixels in zip(seeds, pictures, strict=True):
        height, width, _ = pixels.shape
        yield Picture(
            index=index,
            prompt=request.prompts[index],
            seed=seed,
            width=width,
            height=height,
            pixels=pixels.numpy().tobytes(),
            model=engine.name,
            precision=engine.precision,
            guidance=request.guidance,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            negative=request.negative,
            seconds=seconds,
        )


def counted(done: int, count: int, request: ImagineRequest) -> str:
    """Which pictures of the run are being drawn, in words."""
    total = request.count * len(request.prompts)
    if total == 1:
        return "picture"
    if count == 1:
        return f"picture {done + 1} of {total}"
    return f"pictures {done + 1} to {done + count} of {total}"
