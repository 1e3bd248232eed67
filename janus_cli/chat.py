"""A conversation about pictures in the terminal: reads questions, keeps the turns."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from . import terminal
from .answers import AnswerRecords, AnswerText, Sink, by_page, write_answers
from .errors import ExitCode
from .progress import ProgressLine
from .schema import Event, Turn, UnderstandRequest

PROMPT = "> "
Answering = Callable[[UnderstandRequest], Iterator[Event]]


def converse(
    draft: UnderstandRequest, first: str | None, answer: Answering, *, as_json: bool
) -> ExitCode:
    """Answer questions until there are no more; `draft` holds everything but the questions."""
    history: tuple[Turn, ...] = ()
    question = first or read_question()
    while question is not None:
        request = replace(draft, questions=(question,), history=history)
        try:
            with ProgressLine("thinking") as progress:
                sink = _sink(request, as_json=as_json)
                outcome = write_answers(answer(request), request, progress, sink)
        except KeyboardInterrupt:
            if not terminal.is_terminal(sys.stdin):
                raise
            terminal.say("that answer was cancelled; Ctrl-D ends the conversation")
        else:
            if outcome.answer is None:
                return outcome.exit_code
            history += (Turn(question, outcome.answer.text),)
        question = read_question()
    return ExitCode.OK


def _sink(request: UnderstandRequest, *, as_json: bool) -> Sink:
    if as_json:
        return AnswerRecords(request, terminal.write)
    streams = terminal.is_terminal(sys.stdout)
    return AnswerText(request, terminal.write, place=by_page, streams=streams)


def read_question() -> str | None:
    """The next question that is not blank; None when there are no more."""
    while True:
        try:
            question = _read_line().strip()
        except EOFError:
            return None
        if question:
            return question


def _read_line() -> str:
    """One line from the user, edited by readline where there is one; the prompt is no output."""
    if not terminal.is_terminal(sys.stdin):
        return input()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    try:
        if terminal.is_terminal(sys.stdout):
            return input(PROMPT)  # editing redraws the line, so readline must know the prompt
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        return input()
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")
        raise
