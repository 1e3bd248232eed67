"""What can go wrong in a way that the user can mend, and the exit code that says so."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The documented exit codes of `janus`; scripts rely on them, so they never change meaning."""

    OK = 0
    INTERNAL = 1  # a defect of janus itself; JANUS_DEBUG=1 shows the traceback
    USAGE = 2  # a wrong flag, a missing question, a prompt that is empty or too long
    MODEL = 3  # the model is unknown, damaged or out of reach, or this machine cannot run it
    INPUT = 4  # at least one input could not be read or answered; the others were
    OUTPUT = 5  # a result could not be written
    INTERRUPTED = 130  # Ctrl-C
    CLOSED_PIPE = 141  # the reader of stdout went away
    TERMINATED = 143  # SIGTERM


class JanusError(Exception):
    """An error shown to the user as one line, which names the file or flag and the next step."""

    exit_code = ExitCode.INTERNAL


class UsageError(JanusError):
    exit_code = ExitCode.USAGE


class ModelError(JanusError):
    exit_code = ExitCode.MODEL


class InputError(JanusError):
    exit_code = ExitCode.INPUT


class OutputError(JanusError):
    exit_code = ExitCode.OUTPUT


UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size_in_words(size: float) -> str:
    """A number of bytes as messages write it: 14.8 GB."""
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
