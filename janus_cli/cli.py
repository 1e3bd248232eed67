"""The program: one Typer application, and every command with an example of its use."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import typer

from . import flags, terminal
from .imagine_commands import imagine, info
from .model_commands import doctor, models, pull, quantize, rm
from .serve_commands import ps, serve, stop
from .understand_commands import ask, describe, ocr

COMMANDS: dict[Callable[..., int], str] = {
    describe: "janus describe photos/*.jpg --detail short --json > captions.jsonl",
    ask: 'janus ask photo.jpg "how many penguins?"',
    ocr: "janus ocr scan.png | grep -i total",
    imagine: 'janus imagine "nebula corgi" -n 4 --seed 7 --grid -o drawings/',
    info: "janus info nebula-corgi-7.png",
    models: "janus models",
    pull: "janus pull janus-pro-1b",
    quantize: "janus quantize janus-pro-7b --precision int4",
    rm: "janus rm janus-pro-1b",
    serve: "janus serve --model janus-pro-1b --keep-alive 1h",
    ps: "janus ps",
    stop: "janus stop",
    doctor: "janus doctor > report.txt",
}

EXAMPLES = "\n".join(f"  {example}" for example in COMMANDS.values())
EPILOG = f"""\
Examples:

\b
{EXAMPLES}

Answers go to standard output, everything else to standard error.

Exit codes:

\b
  0    all is well
  1    a defect of janus itself
  2    a wrong flag, a missing question, a prompt that is empty or too long
  3    the model is unknown, damaged or out of reach, or this machine cannot run it
  4    at least one input could not be read or answered; the others were
  5    a result could not be written
  130  interrupted
  141  the reader of standard output went away
  143  ended by SIGTERM

Environment:

\b
  JANUS_MODEL    the model, where --model does not say (a folder or a name)
  JANUS_DEVICE   the device, where --device does not say
  JANUS_KEEP_ALIVE  how long a model stays warm after a call, such as 10m
  JANUS_WEIGHTS  the folder where quantized models lie
  JANUS_DEBUG    1 shows the traceback of an error
  HF_TOKEN       the token that janus pull shows to the hub, for a gated model
  HF_HOME        where pulled models lie; HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE count too
"""

app = typer.Typer(
    help="Look at pictures and draw them, on your own machine, with the Janus family of models.",
    epilog=EPILOG,
    rich_markup_mode=None,  # the plain help takes half the time of the boxed one
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def janus(context: typer.Context, version: flags.Version = False) -> None:
    if context.invoked_subcommand is None:
        terminal.write(context.get_help() + "\n")


def parsing(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """What typer calls for a command. Typer only parses, and hands back a call for main() to make:
    inside typer a Ctrl-C, a closed pipe or the end of a file would be swallowed and turned into its
    own.
    """

    @functools.wraps(command)
    def parsed(**values: Any) -> Callable[[], int]:
        return functools.partial(command, **values)

    return parsed


for command, example in COMMANDS.items():
    app.command(epilog=f"Example: {example}")(parsing(command))
