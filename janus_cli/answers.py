"""Answers → text or one JSON object a line, on standard output."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from . import terminal
from .outcome import Outcome, report, sum_up
from .schema import Answer, Event, Failure, Piece, Progress, UnderstandRequest
from .terminal import ProgressLine

LINES = re.compile(r"[^\n]*\n|[^\n]+")


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
                report(event, outcome, as_json)
    finally:
        progress.hide()
        text.end()
    sum_up(outcome, as_json)
    return outcome


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
