"""The program: one Typer application, and every command with an example of its use."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import typer

from . import flags, terminal

COMMANDS = {
    "describe": (
        "understand_commands",
        "janus describe photos/*.jpg --detail short --json > captions.jsonl",
    ),
    "ask": ("understand_commands", 'janus ask photo.jpg "how many penguins?"'),
    "ocr": ("understand_commands", "janus ocr scan.pdf | grep -i total"),
    "imagine": (
        "imagine_commands",
        'janus imagine "nebula corgi" -n 4 --seed 7 --grid -o drawings/',
    ),
    "info": ("imagine_commands", "janus info nebula-corgi-7.png"),
    "models": ("model_commands", "janus models"),
    "pull": ("model_commands", "janus pull janus-pro-1b"),
    "quantize": ("model_commands", "janus quantize janus-pro-7b --precision int4"),
    "rm": ("model_commands", "janus rm janus-pro-1b"),
    "train": ("train_commands", "janus train photos.jsonl --model janus-pro-1b --lora --steps 500"),
    "serve": ("serve_commands", "janus serve --model janus-pro-1b --keep-alive 1h"),
    "ps": ("serve_commands", "janus ps"),
    "stop": ("serve_commands", "janus stop"),
    "doctor": ("model_commands", "janus doctor > report.txt"),
}
"""The module and an example of each command."""

HELP = "Look at pictures and draw them, on your own machine, with the Janus family of models."
EXAMPLES = "\n".join(f"  {example}" for _, example in COMMANDS.values())
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
  JANUS_MODEL       the model, where --model does not say (a folder or a name)
  JANUS_DEVICE      the device, where --device does not say
  JANUS_KEEP_ALIVE  how long a model stays warm after a call, such as 10m; else it is not kept
  JANUS_VAE         the folder of the VAE that paints JanusFlow's pictures
  JANUS_API_KEY     what clients of janus serve --http have to show
  RAY_ADDRESS       the cluster of --ray; else this machine is one
  JANUS_WEIGHTS     the folder where quantized models lie
  JANUS_DEBUG       1 shows the traceback of an error
  JANUS_KERNEL      off: steps on a CPU are torch's, not those of our own kernel; avx512, avx2: it
                    is the one for processors without AMX, without AVX-512
  HF_TOKEN          the token that janus pull shows to the hub, for a gated model
  HF_HOME           where pulled models lie; HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE count too
"""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for these arguments: with the command that they call, else with all.

    Building all of them takes longer than a warm model takes to answer.
    """
    app = typer.Typer(
        help=HELP,
        epilog=EPILOG,
        rich_markup_mode=None,  # the plain help takes half the time of the boxed one
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(janus)
    called = [name for name in arguments[:1] if name in COMMANDS]
    for name in called or COMMANDS:
        module, example = COMMANDS[name]
        command = getattr(importlib.import_module(f".{module}", __package__), name)
        app.command(epilog=f"Example: {example}")(parsing(command))
    return app


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
