"""Describe, ask and ocr: one path from pictures and questions to text.

Importing this module is cheap; the engine comes in as an argument.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import InputError
from .images import read_image
from .schema import Answer, Event, Failure, Piece, Progress, UnderstandRequest

if TYPE_CHECKING:
    from .engine.batch import Prompt
    from .engine.load import Engine

DESCRIBE_QUESTIONS = {
    "short": "Describe the image in a few words.",
    "normal": "Describe the image.",
    "long": "Describe the image in detail.",
}
OCR_QUESTION = "Read the text in the image. Answer with the text alone."


@dataclass
class Conversation:
    """One question about one picture, or about pictures that belong together, being answered."""

    index: int
    input: str
    question: str
    prompt_tokens: int
    started: float = field(default_factory=time.perf_counter)
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    """What the tokens say, up to the last whole character."""
    shown: int = 0
    """How much of the text has been handed out in pieces."""
    done: bool = False
    seconds: float = 0.0
    """From its picture to its end, others under way beside it."""


def run(request: UnderstandRequest, engine: Engine) -> Iterator[Event]:
    """Answer every question about each picture, or about all of a `together` request.

    The engine works at several at once; their events come one after the other, in the order of the
    pictures and of the questions about each. A picture that cannot be read is a Failure, and the
    others go on; pictures that belong together fail together.
    """
    asked = Asked(request, engine)
    yield asked.progress()
    written = engine.write(
        asked.prompts(), max_tokens=request.max_tokens, temperature=request.temperature
    )
    for number, token in written:
        conversation = asked.conversations[number]
        listen(conversation, token, engine)
        yield from asked.events()
        progress = asked.progress()
        if token is None and progress.done < progress.total:
            yield progress
    yield from asked.events()  # the failures at the end


class Asked:
    """The conversations of a request: those under way, and those whose turn to be told has come."""

    def __init__(self, request: UnderstandRequest, engine: Engine) -> None:
        self.request = request
        self.engine = engine
        self.groups = [request.images] if request.together else [(i,) for i in request.images]
        self.conversations: list[Conversation] = []
        """In the order of the prompts."""
        self.untold: deque[Conversation | Failure] = deque()
        self.answered, self.failed = 0, 0

    def prompts(self) -> Iterator[Prompt]:
        """A prompt for each conversation; pictures are read when the engine asks for them."""
        for number, sources in enumerate(self.groups):
            try:
                yield from self.about(number * len(self.request.questions), sources)
            except InputError as error:
                self.untold.append(
                    Failure(
                        number * len(self.request.questions),
                        "\n".join(sources),
                        str(error),
                        type(error).__name__,
                    )
                )

    def about(self, first: int, sources: Sequence[str]) -> Iterator[Prompt]:
        """Prompts of all questions about pictures that belong together."""
        import torch

        from .engine.batch import Prompt

        engine, request = self.engine, self.request
        pictures = [read_image(source) for source in sources]
        pixels = torch.stack([engine.preprocessing.fit(picture) for picture in pictures])
        for index, question in enumerate(request.questions, start=first):
            ids = engine.writer.conversation(len(pictures), request.history, question)
            conversation = Conversation(index, "\n".join(sources), question, len(ids))
            self.conversations.append(conversation)
            self.untold.append(conversation)
            yield Prompt(ids, pixels, request.seed)

    def progress(self) -> Progress:
        """How many pictures are done with; of one nobody knows how long it takes."""
        if len(self.groups) == 1:
            return Progress("thinking", 0, 0)
        done = self.answered // len(self.request.questions) + self.failed
        return Progress("pictures", done, len(self.groups))

    def events(self) -> Iterator[Event]:
        """What can be told now: of the first untold conversation, and of those after it once it is
        done."""
        while self.untold:
            first = self.untold[0]
            if isinstance(first, Failure):
                self.failed += 1
                yield first
            elif first.done:
                self.answered += 1
                yield answer(first, self.engine)
            else:
                if first.shown < len(first.text):
                    yield Piece(first.index, first.text[first.shown :])
                    first.shown = len(first.text)
                return
            self.untold.popleft()


def listen(conversation: Conversation, token: int | None, engine: Engine) -> None:
    """Take in the next token of an answer, or its end."""
    if token is None:
        conversation.text = engine.writer.decode(conversation.tokens).strip()
        conversation.done = True
        conversation.seconds = time.perf_counter() - conversation.started
        return
    conversation.tokens.append(token)
    text = engine.writer.decode(conversation.tokens).lstrip()
    half_of_a_character = text.endswith("\ufffd")
    if text.startswith(conversation.text) and not half_of_a_character:
        conversation.text = text


def answer(conversation: Conversation, engine: Engine) -> Answer:
    return Answer(
        index=conversation.index,
        input=conversation.input,
        question=conversation.question,
        text=conversation.text,
        model=engine.name,
        precision=engine.precision,
        tokens=len(conversation.tokens),
        prompt_tokens=conversation.prompt_tokens,
        seconds=conversation.seconds,
    )
