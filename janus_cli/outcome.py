"""How a run ends: what failed is reported where it happened, and counted."""

from __future__ import annotations

from dataclasses import dataclass

from . import terminal
from .errors import ExitCode
from .schema import Answer, Failure


@dataclass
class Outcome:
    """How a run ended: the last answer, and how many of its inputs failed."""

    total: int
    failed: int = 0
    answer: Answer | None = None

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.INPUT if self.failed else ExitCode.OK


def report(failure: Failure, outcome: Outcome, as_json: bool) -> None:
    outcome.failed += 1
    if as_json:
        record = {"input": failure.input, "error": failure.error, "error_type": failure.error_type}
        terminal.write_json(record)
        return
    named = failure.error.startswith((failure.input, "standard input", "-:"))
    terminal.say(failure.error if named else f"{failure.input}: {failure.error}")


def sum_up(outcome: Outcome, as_json: bool) -> None:
    if outcome.failed and (as_json or outcome.total > 1):
        terminal.say(f"{outcome.failed} of {outcome.total} failed")
