"""How a run ends: what failed is reported where it happened, and counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import terminal
from .errors import ExitCode
from .schema import Answer, Failure

LONGEST_NAME = 200


@dataclass
class Outcome:
    """How a run ended: the last answer, and which of its inputs failed."""

    total: int
    failed: set[int] = field(default_factory=set)
    answer: Answer | None = None

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.INPUT if self.failed else ExitCode.OK


def report(failure: Failure, outcome: Outcome, as_json: bool) -> None:
    """Count a failure, and write its record or say its line."""
    outcome.failed.add(failure.index)
    if as_json:
        terminal.write_json(failure_record(failure))
    else:
        say_failure(failure)


def failure_record(failure: Failure) -> dict[str, Any]:
    """What stands in the place of an answer or of a picture."""
    page = {} if failure.page is None else {"page": failure.page}
    record = {"input": failure.input, **page}
    return record | {"error": failure.error, "error_type": failure.error_type}


def say_failure(failure: Failure) -> None:
    """Say what is wrong with an input, on standard error."""
    named = failure.error.startswith((failure.input, "standard input", "-:"))
    terminal.say(failure.error if named else f"{_shortened(failure.input)}: {failure.error}")


def _shortened(name: str) -> str:
    """A prompt may be a whole page."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def sum_up(outcome: Outcome, as_json: bool) -> None:
    """Say how many inputs failed, where nobody has seen it."""
    if outcome.failed and (as_json or outcome.total > 1):
        terminal.say(f"{len(outcome.failed)} of {outcome.total} failed")
