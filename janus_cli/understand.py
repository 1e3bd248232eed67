"""Describe, ask and ocr: one path from pictures and questions to text.

Importing this module is cheap; the engine comes in as an argument.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING

from .ahead import read_ahead
from .errors import InputError
from .images import read_pages
from .schema import Answer, Event, Failure, Piece, Progress, UnderstandRequest

if TYPE_CHECKING:
    from PIL import Image

    from .engine.batch import Prompt
    from .engine.interface import Engine

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
    page: int | None
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


@dataclass(frozen=True)
class Group:
    """Pictures of one conversation: one alone, or all of a `together` request."""

    index: int
    sources: tuple[str, ...]
    without: frozenset[int] = frozenset()
    """Pages that are left out."""

    @property
    def input(self) -> str:
        return "\n".join(self.sources)


@dataclass(frozen=True)
class Page:
    """What a conversation sees: a page, a picture alone, or pictures that belong together."""

    number: int | None
    frames: tuple[Image.Image, ...] = ()
    """Of the model's size."""
    error: InputError | None = None


def run(request: UnderstandRequest, engine: Engine) -> Iterator[Event]:
    """Answer every question about each page of each picture, or about all of a `together` request.

    The engine works at several at once; their events come one after the other, in the order of the
    pictures, of their pages and of the questions about each. A picture that cannot be read is a
    Failure, and the others go on; pictures that belong together fail together.
    """
    asked = Asked(request, engine)
    yield asked.progress()
    for number, token in engine.write(asked.prompts()):
        listen(asked.conversations[number], token, engine)
        yield from asked.events()
        progress = asked.progress()
        if token is None and progress.done < progress.total:
            yield progress
        if token is None:
            del asked.conversations[number]
    yield from asked.events()  # the failures at the end


class Asked:
    """The conversations of a request: those under way, and those whose turn to be told has come."""

    def __init__(self, request: UnderstandRequest, engine: Engine) -> None:
        self.request = request
        self.engine = engine
        self.groups = grouped(request)
        self.conversations: dict[int, Conversation] = {}
        """By the numbers of their prompts."""
        self.untold: deque[Conversation | Failure] = deque()
        self.done = 0
        """How many groups have been told."""

    def prompts(self) -> Iterator[Prompt]:
        """A prompt for each conversation; pictures are read when the engine asks for them."""
        numbers = count()
        for group, page in read_ahead(self.groups, self.read):
            if page.error:
                error, kind = str(page.error), type(page.error).__name__
                self.untold.append(Failure(group.index, group.input, error, kind, page.number))
            else:
                yield from self.about(group, page, numbers)

    def read(self, group: Group) -> Iterator[Page]:
        """What a group shows, framed for the model; called on threads."""
        frame = self.engine.preprocessing.frame
        try:
            if self.request.together:
                writer = self.engine.writer
                most = writer.context // writer.image_tokens + 1  # one more than can be asked about
                pictures = islice(self.all_pages(group), most)
                yield Page(None, tuple(frame(picture) for picture in pictures))
                return
            for number, picture in self.pages(group):
                if isinstance(picture, InputError):
                    yield Page(number, error=picture)
                else:
                    yield Page(number, (frame(picture),))
        except InputError as error:
            yield Page(None, error=error)

    def pages(self, group: Group) -> Iterator[tuple[int | None, Image.Image | InputError]]:
        """The pages of a group's only source that are not left out."""
        return read_pages(group.sources[0], without=group.without, origin=self.request.origin)

    def all_pages(self, group: Group) -> Iterator[Image.Image]:
        """Every picture of a group; the first that cannot be read is raised."""
        for source in group.sources:
            for _, picture in read_pages(source, origin=self.request.origin):
                if isinstance(picture, InputError):
                    raise picture
                yield picture

    def about(self, group: Group, page: Page, numbers: Iterator[int]) -> Iterator[Prompt]:
        """Prompts of all questions about what a page shows."""
        import torch

        from .engine.batch import Prompt

        engine, request = self.engine, self.request
        fitted = [engine.preprocessing.normalise(frame) for frame in page.frames]
        pixels = torch.stack(fitted) if fitted else None
        for question in request.questions:
            ids = engine.writer.conversation(len(page.frames), request.history, question)
            conversation = Conversation(
                group.index, group.input, page.number, question, prompt_tokens=len(ids)
            )
            self.conversations[next(numbers)] = conversation
            self.untold.append(conversation)
            yield Prompt(ids, pixels, request.seed, request.max_tokens, request.temperature)

    def progress(self) -> Progress:
        """How many pictures are done with; of one nobody knows how long it takes."""
        if len(self.groups) == 1:
            return Progress("thinking", 0, 0)
        return Progress("pictures", self.done, len(self.groups), counted=True)

    def events(self) -> Iterator[Event]:
        """What can be told now: of the first untold conversation, and of those after it once it is
        done."""
        while self.untold:
            first = self.untold[0]
            if isinstance(first, Failure):
                yield first
            elif first.done:
                yield answer(first, self.engine)
            else:
                if first.shown < len(first.text):
                    text = first.text[first.shown :]
                    yield Piece(first.index, first.page, first.question, text)
                    first.shown = len(first.text)
                return
            self.untold.popleft()
            self.count(first)

    def count(self, told: Conversation | Failure) -> None:
        """Count the groups that were told to their end; whether a page is the last, the next group
        shows."""
        last = isinstance(told, Failure) or told.question == self.request.questions[-1]
        self.done = told.index + (last and told.page is None)


def grouped(request: UnderstandRequest) -> list[Group]:
    """The pictures of a request as they belong together."""
    if request.together:
        return [Group(0, request.images)]
    pages: dict[int, set[int]] = {}
    for index, page in request.answered:
        pages.setdefault(index, set()).add(page)
    return [
        Group(index, (name,), frozenset(pages.get(index, ())))
        for index, name in enumerate(request.images)
    ]


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
        page=conversation.page,
        question=conversation.question,
        text=conversation.text,
        model=engine.name,
        precision=engine.precision,
        tokens=len(conversation.tokens),
        prompt_tokens=conversation.prompt_tokens,
        seconds=conversation.seconds,
    )
