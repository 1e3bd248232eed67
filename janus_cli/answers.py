"""Answers → text or one JSON object a line: on standard output, in one file, or in a file each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from . import terminal
from .files import write_whole
from .outcome import Outcome, failure_record, say_failure, sum_up
from .progress import ProgressLine
from .schema import Answer, Event, Failure, Piece, Progress, UnderstandRequest

LINES = re.compile(r"[^\n]*\n|[^\n]+")
NEXT_PAGE = "\f"  # between the pages of a document, as pdftotext writes it

Write = Callable[[str], None]
Place = Callable[[Piece | Answer], str]


class Sink(Protocol):
    """Where answers go."""

    as_json: bool
    streams: bool
    """Whether it shows pieces of answers."""

    def piece(self, piece: Piece) -> None:
        """Show a piece of the next answer."""

    def answer(self, answer: Answer) -> None:
        """Write an answer."""

    def failure(self, failure: Failure) -> None:
        """Write or say what could not be answered."""

    def finish(self) -> None:
        """Write what is left; not called where the run was broken off."""

    def end(self) -> None:
        """End what has been begun, however the run ends."""


class AnswerText:
    """Answers as text. Of several questions, every line carries its own; `place` says what comes
    before that."""

    as_json = False

    def __init__(
        self, request: UnderstandRequest, write: Write, *, place: Place, streams: bool = False
    ) -> None:
        self.streams = streams
        self._several = len(request.questions) > 1
        self._write = write
        self._place = place
        self._shown = ""
        self._within_line = False

    def piece(self, piece: Piece) -> None:
        self._put(piece, piece.text)
        self._shown += piece.text

    def answer(self, answer: Answer) -> None:
        """Show what the pieces of the answer have not shown, and end its last line."""
        if not self._shown:
            self._put(answer, answer.text or "\n")
        elif answer.text.startswith(self._shown):
            self._put(answer, answer.text[len(self._shown) :])
        self.end()

    def failure(self, failure: Failure) -> None:
        self.end()
        say_failure(failure)

    def finish(self) -> None:
        pass

    def end(self) -> None:
        if self._within_line:
            self._write("\n")
        self._shown, self._within_line = "", False

    def _put(self, said: Piece | Answer, text: str) -> None:
        prefix = self._place(said) + (_introduced(said.question) if self._several else "")
        parts = []
        for line in LINES.findall(terminal.visible(text)):
            parts.append(line if self._within_line else prefix + line)
            self._within_line = not line.endswith("\n")
        self._write("".join(parts))


def by_page(said: Piece | Answer) -> str:
    """What a line begins with where there is one input: of a document, the page."""
    return "" if said.page is None else f"{said.page}: "


def by_file(request: UnderstandRequest) -> Place:
    """What a line begins with where there are several, as grep's lines do: `scan.pdf:3: `."""
    names = [terminal.one_line(name) for name in request.images]

    def place(said: Piece | Answer) -> str:
        page = "" if said.page is None else f"{said.page}:"
        return f"{names[said.index]}:{page} "

    return place


class AnswerRecords:
    """Answers and failures as one JSON object a line."""

    as_json = True
    streams = False

    def __init__(self, request: UnderstandRequest, write: Write) -> None:
        self._request = request
        self._write = write

    def piece(self, piece: Piece) -> None:
        pass

    def answer(self, answer: Answer) -> None:
        self._write(terminal.json_line(answer_record(answer, self._request)))

    def failure(self, failure: Failure) -> None:
        self._write(terminal.json_line(failure_record(failure)))

    def finish(self) -> None:
        pass

    def end(self) -> None:
        pass


class AnswerFiles:
    """A file for every picture, whose path is told when it is there.

    As text the pages of a document are parted by form feeds, and a picture that fails gets no file;
    as JSON the file holds what standard output would.
    """

    streams = False

    def __init__(
        self, request: UnderstandRequest, paths: tuple[str, ...], *, as_json: bool, force: bool
    ) -> None:
        self._request = request
        self._paths = paths
        self._force = force
        self.as_json = as_json
        self._parts: list[str] = []
        self._content = self._new_content()
        self._index: int | None = None
        self._page: int | None = None

    def piece(self, piece: Piece) -> None:
        pass

    def answer(self, answer: Answer) -> None:
        self._begin(answer.index, answer.page)
        self._content.answer(answer)
        if answer.page is None and answer.question == self._request.questions[-1]:
            self.finish()

    def failure(self, failure: Failure) -> None:
        self._begin(failure.index, failure.page)
        self._content.failure(failure)
        if failure.page is None:
            self.finish()

    def finish(self) -> None:
        if self._index is not None and self._parts:
            path = self._paths[self._index]
            data = "".join(self._parts).encode("utf-8", "backslashreplace")
            write_whole(path, data, force=self._force)
            terminal.write_path(path)
        self._parts.clear()
        self._index = self._page = None

    def end(self) -> None:
        pass

    def _begin(self, index: int, page: int | None) -> None:
        if index != self._index:
            self.finish()
        elif page != self._page and not self.as_json:
            self._parts.append(NEXT_PAGE)
        self._index, self._page = index, page

    def _new_content(self) -> Sink:
        if self.as_json:
            return AnswerRecords(self._request, self._parts.append)
        return AnswerText(self._request, self._parts.append, place=lambda _: "")


def write_answers(
    events: Iterable[Event], request: UnderstandRequest, progress: ProgressLine, sink: Sink
) -> Outcome:
    """Write what understanding yields, each answer when it is there."""
    outcome = Outcome(total=1 if request.together else len(request.images))
    try:
        for event in events:
            if isinstance(event, Progress):
                progress.show(event.label, event.done, event.total, counted=event.counted)
                continue
            if isinstance(event, Piece) and not sink.streams:
                continue
            progress.hide()
            if isinstance(event, Piece):
                sink.piece(event)
            elif isinstance(event, Answer):
                sink.answer(event)
                outcome.answer = event
            elif isinstance(event, Failure):
                outcome.failed.add(event.index)
                sink.failure(event)
        sink.finish()
    finally:
        progress.hide()
        sink.end()
    sum_up(outcome, sink.as_json)
    return outcome


def answer_record(answer: Answer, request: UnderstandRequest) -> dict[str, Any]:
    """An answer as one JSON object."""
    return {
        "input": answer.input,
        "page": answer.page,
        "question": answer.question,
        "text": answer.text,
        "model": answer.model,
        "precision": answer.precision,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "seconds": round(answer.seconds, 3),
        "temperature": request.temperature,
        "seed": request.seed,
    }


def _introduced(question: str) -> str:
    """A question before its answer."""
    question = terminal.one_line(question.strip())
    return f"{question} " if question.endswith(("?", ":", ".", "!")) else f"{question}: "
