"""Events → standard output and files: plain text or one JSON object a line, failures counted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import png, terminal
from .errors import ExitCode
from .names import Targets
from .schema import (
    Answer,
    Event,
    Failure,
    ImagineRequest,
    Picture,
    Piece,
    Progress,
    UnderstandRequest,
)
from .terminal import ProgressLine

LINES = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass
class Outcome:
    """How a run ended: the last answer, and how many of its inputs failed."""

    total: int
    failed: int = 0
    answer: Answer | None = None

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.INPUT if self.failed else ExitCode.OK


class AnswerText:
    """Answers as text. Of several, every line carries its input and its question, as grep's lines
    carry their file."""

    def __init__(self, request: UnderstandRequest) -> None:
        several = len(request.images) > 1 and not request.together
        names = [f"{terminal.one_line(name)}: " for name in request.images] if several else [""]
        questions = [""]
        if len(request.questions) > 1:
            questions = [_introduced(question) for question in request.questions]
        self._prefixes = [name + question for name in names for question in questions]
        # Of several pictures the answers come whole: between two words the engine looks at the next
        # ones, which would hold up a line that has begun, where progress could be shown.
        self.streams = terminal.is_terminal(sys.stdout) and not several
        self._shown = ""
        self._within_line = False

    def piece(self, piece: Piece) -> None:
        """Show a piece of an answer."""
        self._put(piece.index, piece.text)
        self._shown += piece.text

    def answer(self, answer: Answer) -> None:
        """Show what the pieces of the answer have not shown, and end its last line."""
        if not self._shown:
            self._put(answer.index, answer.text or "\n")
        elif answer.text.startswith(self._shown):
            self._put(answer.index, answer.text[len(self._shown) :])
        self.end()

    def end(self) -> None:
        """End the line that has been begun."""
        if self._within_line:
            terminal.write("\n")
        self._shown, self._within_line = "", False

    def _put(self, index: int, text: str) -> None:
        parts = []
        for line in LINES.findall(terminal.visible(text)):
            parts.append(line if self._within_line else self._prefixes[index] + line)
            self._within_line = not line.endswith("\n")
        terminal.write("".join(parts))


def _introduced(question: str) -> str:
    """A question before its answer."""
    question = terminal.one_line(question.strip())
    return f"{question} " if question.endswith(("?", ":", ".", "!")) else f"{question}: "


def write_answers(
    events: Iterable[Event], request: UnderstandRequest, progress: ProgressLine, *, as_json: bool
) -> Outcome:
    """Write what understanding yields, each answer when it is there."""
    outcome = Outcome(total=1 if request.together else len(request.images))
    text = AnswerText(request)
    try:
        for event in events:
            if isinstance(event, Progress):
                progress.show(event.label, event.done, event.total)
            elif isinstance(event, Piece):
                if not as_json and text.streams:
                    progress.hide()
                    text.piece(event)
            elif isinstance(event, Answer):
                progress.hide()
                if as_json:
                    terminal.write_json(_answer_record(event, request))
                else:
                    text.answer(event)
                outcome.answer = event
            elif isinstance(event, Failure):
                progress.hide()
                text.end()
                _report(event, outcome, as_json)
    finally:
        progress.hide()
        text.end()
    _sum_up(outcome, as_json)
    return outcome


def write_pictures(
    events: Iterable[Event],
    request: ImagineRequest,
    targets: Targets,
    progress: ProgressLine,
    *,
    as_json: bool,
) -> Outcome:
    """Write each picture to its file when it is drawn, then the contact sheet of its prompt."""
    outcome = Outcome(total=len(request.prompts))
    drawn: list[Picture] = []
    for event in events:
        if isinstance(event, Progress):
            progress.show(event.label, event.done, event.total)
        elif isinstance(event, Picture):
            progress.hide()
            drawn.append(event)
            path = targets.paths[event.index][event.seed - request.seed]
            png.write_picture(event, path, force=targets.force)
            _announce(path, _picture_record(event, path), as_json)
            if len(drawn) == request.count:
                if targets.grids:
                    grid = targets.grids[event.index]
                    png.write_grid(drawn, grid, force=targets.force)
                    _announce(grid, _grid_record(drawn, grid), as_json)
                drawn = []
        elif isinstance(event, Failure):
            progress.hide()
            drawn = []
            _report(event, outcome, as_json)
    _sum_up(outcome, as_json)
    return outcome


def write_settings(path: str, settings: dict[str, Any], *, as_json: bool) -> None:
    """Write what a picture carries: a line a setting, or one object."""
    if as_json:
        terminal.write_json({"path": path, **settings})
        return
    for name, value in settings.items():
        if value is not None:
            terminal.write(f"{terminal.one_line(name)}: {terminal.one_line(str(value))}\n")


def _announce(path: str, record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.write_json(record)
    else:
        terminal.write_path(path)


def _report(failure: Failure, outcome: Outcome, as_json: bool) -> None:
    outcome.failed += 1
    if as_json:
        record = {"input": failure.input, "error": failure.error, "error_type": failure.error_type}
        terminal.write_json(record)
        return
    named = failure.error.startswith((failure.input, "standard input", "-:"))
    terminal.say(failure.error if named else f"{failure.input}: {failure.error}")


def _sum_up(outcome: Outcome, as_json: bool) -> None:
    if outcome.failed and (as_json or outcome.total > 1):
        terminal.say(f"{outcome.failed} of {outcome.total} failed")


def _answer_record(answer: Answer, request: UnderstandRequest) -> dict[str, Any]:
    return {
        "input": answer.input,
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


def _picture_record(picture: Picture, path: str) -> dict[str, Any]:
    record = {"path": path, **png.settings_of(picture)}
    return record | {"seconds": round(picture.seconds, 3)}


def _grid_record(pictures: list[Picture], path: str) -> dict[str, Any]:
    seconds = round(sum(picture.seconds for picture in pictures), 3)
    settings = png.settings_of(pictures[0])
    return {"path": path, "grid": True, **settings, "count": len(pictures), "seconds": seconds}
