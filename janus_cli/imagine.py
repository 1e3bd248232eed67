"""Imagine: a prompt to pictures. Picture i of a prompt depends on seed + i and on nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .schema import Event, ImagineRequest, Picture, Progress

if TYPE_CHECKING:
    from .engine.decode import Drawing
    from .engine.load import Engine


def run(request: ImagineRequest, engine: Engine) -> Iterator[Event]:
    """Draw `count` pictures of every prompt, in the order of prompts and seeds.

    As many at once as memory allows, whatever their prompts.
    """
    drawings = [
        (index, drawing)
        for index, prompt in enumerate(request.prompts)
        for drawing in prepare(prompt, request, engine)
    ]
    together = engine.most_pictures()
    for first in range(0, len(drawings), together):
        yield from draw(drawings[first : first + together], first, request, engine)


def prepare(prompt: str, request: ImagineRequest, engine: Engine) -> list[Drawing]:
    """The pictures of one prompt; too long a prompt fails here."""
    from .engine.decode import Drawing

    writer = engine.writer
    ids = writer.drawing(prompt, engine.image_tokens)
    other = writer.unconditional(ids)
    if request.negative is not None:
        other = writer.drawing(request.negative, engine.image_tokens, flag="--negative")
    return [Drawing(ids, other, request.seed + i) for i in range(request.count)]


def draw(
    drawings: Sequence[tuple[int, Drawing]], first: int, request: ImagineRequest, engine: Engine
) -> Iterator[Event]:
    """Draw pictures together, each with the number of its prompt; `first` were drawn before."""
    import torch

    from .engine.decode import Sampling

    sampling = Sampling(request.guidance, request.temperature, request.top_k, request.top_p)
    label = counted(first, len(drawings), request)
    started = time.perf_counter()
    yield Progress(label, 0, engine.image_tokens)
    columns = []
    for codes in engine.draw([drawing for _, drawing in drawings], sampling):
        columns.append(codes)
        yield Progress(label, len(columns), engine.image_tokens)
    pictures = engine.paint(torch.stack(columns, dim=1))  # (pictures, H, W, 3)
    seconds = (time.perf_counter() - started) / len(drawings)
    for (index, drawing), pixels in zip(drawings, pictures, strict=True):
        height, width, _ = pixels.shape
        yield Picture(
            index=index,
            prompt=request.prompts[index],
            seed=drawing.seed,
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
