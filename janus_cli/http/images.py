"""Prompts as OpenAI's clients send them, and the pictures drawn. It knows no connection."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

from ..flags import random_seed
from ..png import encoded
from ..schema import Event, ImagineRequest, Picture, Wish
from .errors import ApiError
from .schema import DrawnPicture, ImageRequest, ImagesResponse, ImagesUsage, PromptTokens

if TYPE_CHECKING:
    from ..engine.shared import Session

SETTINGS = ("guidance", "temperature", "top_k", "top_p", "negative", "steps")


def drawing(body: ImageRequest, side: int) -> ImagineRequest:
    """What is to be drawn, by a model whose pictures have this side.

    Raises:
        ApiError, UsageError: it cannot be drawn.
    """
    if body.size not in (None, "auto", size_of(side)):
        message = f"size: this model draws {size_of(side)}; leave it out"
        raise ApiError(400, message, param="size", code="invalid_value")
    settings = {name: getattr(body, name) for name in SETTINGS}
    given = {name: value for name, value in settings.items() if value is not None}
    seed = random_seed() if body.seed is None else body.seed
    return ImagineRequest((Wish(body.prompt, body.n or 1, seed, **given),))


def drawn(
    body: ImageRequest, events: Callable[[ImagineRequest], Iterator[Event]], engine: Session
) -> Generator[ImagesResponse]:
    """The pictures as they are sent, and what they have taken in tokens.

    Raises:
        ApiError, JanusError: they cannot be drawn.
    """
    side = engine.preprocessing.size
    data = [
        DrawnPicture(b64_json=base64.b64encode(encoded(event)).decode(), seed=event.seed)
        for event in events(drawing(body, side))
        if isinstance(event, Picture)
    ]
    asked, answered = len(engine.writer.drawing(body.prompt)), len(data) * engine.image_tokens
    yield ImagesResponse(
        created=int(time.time()),
        data=data,
        size=size_of(side),
        usage=ImagesUsage(
            input_tokens=asked,
            input_tokens_details=PromptTokens(text_tokens=asked),
            output_tokens=answered,
            total_tokens=asked + answered,
        ),
    )


def size_of(side: int) -> str:
    return f"{side}x{side}"
