"""Describe, ask and ocr: one path from pictures and a question to text.

Importing this module is cheap; the engine comes in as an argument.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .errors import InputError
from .images import read_image
from .schema import Answer, Event, Failure, Piece, Progress, UnderstandRequest

if TYPE_CHECKING:
    from .engine.load import Engine

DESCRIBE_QUESTIONS = {
    "short": "Describe the image in a few words.",
    "normal": "Describe the image.",
    "long": "Describe the image in detail.",
}
OCR_QUESTION = "Read the text in the image. Answer with the text alone."


def run(request: UnderstandRequest, engine: Engine) -> Iterator[Event]:
    """Answer for each picture, or once for all of a `together` request, in the order given.

    A picture that cannot be read is a Failure, and the others go on; pictures that belong together
    fail together.
    """
    conversations = [request.images] if request.together else [(i,) for i in request.images]
    for index, sources in enumerate(conversations):
        if len(conversations) > 1:
            yield Progress("pictures", index, len(conversations))
        try:
            yield from converse(index, sources, request, engine)
        except InputError as error:
            yield Failure(index, "\n".join(sources), str(error), type(error).__name__)


def converse(
    index: int, sources: Sequence[str], request: UnderstandRequest, engine: Engine
) -> Iterator[Event]:
    """The pieces of one answer, then the whole of it."""
    import torch

    started = time.perf_counter()
    pictures = [read_image(source) for source in sources]
    pixels = torch.stack([engine.preprocessing.fit(picture) for picture in pictures])
    ids = engine.writer.conversation(len(pictures), request.history, request.question)
    tokens: list[int] = []
    shown = ""
    written = engine.write(
        ids,
        pixels,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
    )
    for token in written:
        tokens.append(token)
        text = engine.writer.decode(tokens).lstrip()
        if text.startswith(shown) and not text.endswith("\ufffd"):  # half of a character
            if len(text) > len(shown):
                yield Piece(index, text[len(shown) :])
            shown = text
    text = engine.writer.decode(tokens).strip()
    yield Answer(
        index=index,
        input="\n".join(sources),
        text=text,
        model=engine.name,
        precision=engine.precision,
        tokens=len(tokens),
        prompt_tokens=len(ids),
        seconds=time.perf_counter() - started,
    )
