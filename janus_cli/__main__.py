"""Where the process starts and ends: the one place where an error becomes a line and a code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings

from .errors import ExitCode, JanusError
from .handover import hand_over

TYPE_CHECKING = False  # typing itself takes a while to import
if TYPE_CHECKING:
    from typer import TyperException


def main() -> int:
    """Have the call made by a process that stands by, else make it here."""
    if not _debugs() and not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        code = hand_over(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("janus: interrupted\n")
        return ExitCode.INTERRUPTED
    return run(sys.argv[1:]) if code is None else code


def run(arguments: list[str]) -> int:
    """Run the program; whatever goes wrong is one line on standard error and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from .cli import build

        parsed = build(arguments)(arguments, prog_name="janus", standalone_mode=False)
        if parsed == ExitCode.INTERRUPTED:  # typer has caught a Ctrl-C
            raise KeyboardInterrupt
        code = parsed() if callable(parsed) else ExitCode.OK
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        if _debugs() and not isinstance(error, SystemExit):
            _show_traceback()
        code, message = _explain(error)
        try:
            if message:
                from .terminal import say

                say(message)
        except BrokenPipeError:
            code = ExitCode.CLOSED_PIPE
        _settle_stdout()
    return int(code)


def _debugs() -> bool:
    return os.environ.get("JANUS_DEBUG", "") not in ("", "0")


class Terminated(BaseException):
    """SIGTERM, which ends the program as an interrupt does, so that nothing is left behind."""


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough
    raise Terminated


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code of an error, and the line that explains it; some need no explanation."""
    if isinstance(error, JanusError):
        return error.exit_code, str(error) or type(error).__name__
    import typer

    if isinstance(error, typer.TyperException):
        return ExitCode.USAGE, _usage_line(error)
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED, "interrupted"
    if isinstance(error, Terminated):
        return ExitCode.TERMINATED, ""
    if isinstance(error, BrokenPipeError):
        return ExitCode.CLOSED_PIPE, ""
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # typer has caught it
            return ExitCode.CLOSED_PIPE, ""
        return error.code if isinstance(error.code, int) else ExitCode.OK, ""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of a help text, say
        return ExitCode.OUTPUT, "standard output: no space left; make room or write elsewhere"
    if isinstance(error, MemoryError):
        return ExitCode.MODEL, "out of memory; choose a smaller model, fewer pictures or a lower -n"
    reason = f"{type(error).__name__}: {error}"
    return ExitCode.INTERNAL, f"a defect of janus: {reason} (JANUS_DEBUG=1 shows where)"


def _usage_line(error: TyperException) -> str:
    """Typer's own complaint as one line that names the command and its help."""
    context = getattr(error, "ctx", None)
    program = context.command_path if context is not None else "janus"
    command = program.partition(" ")[2]
    complaint = " ".join(error.format_message().split()).rstrip(".")
    complaint = complaint[:1].lower() + complaint[1:]
    where = f"{command}: " if command else ""
    return f"{where}{complaint} (try '{program} --help')"


def _show_traceback() -> None:
    import traceback

    traceback.print_exc()


def _settle_stdout() -> None:
    """Drop what cannot be written any more; else the interpreter complains at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
