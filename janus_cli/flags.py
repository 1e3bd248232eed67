"""The arguments and options of the commands, each declared once. Knows names, not what they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from . import __version__, terminal, weights
from .schema import (
    BACKENDS,
    CODE_GUIDANCE,
    DETAILS,
    DEVICES,
    FAMILIES,
    FLOW_GUIDANCE,
    FLOW_STEPS,
    PRECISIONS,
    WRITTEN,
)

RANDOM_SEEDS = 2**31


def _one_of(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Completion of a fixed set of words; the request itself checks the value."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _installed(incomplete: str) -> list[str]:
    return [name for name in weights.installed() if name.startswith(incomplete)]


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.write(f"janus {__version__}\n")
        raise typer.Exit()


# Arguments. They are hidden because typer's help would call them lists of str; the usage line names
# them and the help text of the command explains them.

Images = Annotated[list[str] | None, typer.Argument(metavar="IMAGE", hidden=True)]
Question = Annotated[str | None, typer.Argument(metavar="QUESTION", hidden=True)]
Prompts = Annotated[list[str] | None, typer.Argument(metavar="PROMPT", hidden=True)]
ModelToPull = Annotated[
    str,
    typer.Argument(metavar="NAME|REPO", hidden=True, autocompletion=_one_of(tuple(weights.NAMES))),
]
ModelToQuantize = Annotated[
    str, typer.Argument(metavar="PATH|NAME", hidden=True, autocompletion=_installed)
]
InstalledModel = Annotated[
    str, typer.Argument(metavar="NAME", hidden=True, autocompletion=_installed)
]
PictureFile = Annotated[str, typer.Argument(metavar="FILE", hidden=True)]

# Options of understanding

Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Look into the folders of a folder, too.")
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE|-",
        help="Read names of pictures, one a line, from a file or from standard input.",
        show_default=False,
    ),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="Names in --files-from end in null bytes, not lines.")
]

Detail = Annotated[
    str,
    typer.Option(
        metavar="|".join(DETAILS), help="How much to say.", autocompletion=_one_of(DETAILS)
    ),
]
Questions = Annotated[
    list[str] | None,
    typer.Option(
        "--question",
        "-q",
        metavar="TEXT",
        help="A question; give it several times to ask several about each picture.",
        show_default=False,
    ),
]
Together = Annotated[
    bool,
    typer.Option("--together", help="Ask once about all pictures, instead of once about each."),
]
Chat = Annotated[
    bool,
    typer.Option("--chat", help="Go on reading questions from the terminal; Ctrl-D ends."),
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", metavar="N", help="The longest answer, in tokens.")
]
AnswerTemperature = Annotated[
    float, typer.Option("--temperature", metavar="T", help="0 is greedy; above, answers vary.")
]
AnswerSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Repeats an answer that varies.  [default: random]",
        show_default=False,
    ),
]
AnswerFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write into a file what standard output would get.",
        show_default=False,
    ),
]
AnswerFolder = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write a .txt for each picture, with --json a .json, into a folder like theirs.",
        show_default=False,
    ),
]
ResumeAnswers = Annotated[
    bool,
    typer.Option("--resume", help="Go on with --out, or with -o FILE of --json: do what is left."),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object a line.")]

# Options of drawing

PromptsFrom = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE|-",
        help="Read prompts, one a line: as plain text, or as a JSON object that has a prompt and "
        "any of seed, n, guidance, steps, temperature, top_k, top_p, negative and output (a name "
        "for its pictures).",
        show_default=False,
    ),
]
Count = Annotated[
    int, typer.Option("--count", "-n", metavar="N", help="How many pictures of each prompt.")
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Picture i is drawn with seed + i.  [default: random]",
        show_default=False,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="G",
        help=f"How closely to follow the prompt.  [default: {CODE_GUIDANCE:g}; of JanusFlow "
        f"{FLOW_GUIDANCE:g}]",
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        help=f"In how many steps JanusFlow draws; other models have none.  [default: {FLOW_STEPS}]",
        show_default=False,
    ),
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="T", help="0 is greedy; above, pictures vary.")
]
TopK = Annotated[
    int, typer.Option("--top-k", metavar="K", help="Keep the K likeliest codes only; 0 keeps all.")
]
TopP = Annotated[
    float, typer.Option("--top-p", metavar="P", help="Keep the likeliest codes of mass P only.")
]
Negative = Annotated[
    str | None,
    typer.Option("--negative", metavar="TEXT", help="What to keep away from.", show_default=False),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER|PATTERN",
        help="A folder, or a .png name with {slug}, {seed}, {i} (the picture's number within its "
        "prompt, from 0), {index} (the prompt's) and {stem} (the --prompts file's name).  "
        "[default: {slug}-{seed}.png, with {index} before it where that is not enough]",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
ResumePictures = Annotated[
    bool,
    typer.Option("--resume", help="Draw what a former run with the same --seed has not drawn."),
]
Grid = Annotated[
    bool, typer.Option("--grid", help="Also write a contact sheet of each prompt, ...-grid.png.")
]

# Options of a cluster

Ray = Annotated[
    bool,
    typer.Option(
        "--ray",
        help="Answer on the Ray cluster at RAY_ADDRESS, whose hosts share these files; without it "
        "on one of this machine alone. A model runs on each GPU, else on every few CPUs.",
    ),
]
RayWorkers = Annotated[
    int | None,
    typer.Option(
        "--ray-workers",
        metavar="N",
        help="How many models --ray runs.  [default: as many as fit]",
        show_default=False,
    ),
]

# Options of the model

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PATH|NAME",
        envvar="JANUS_MODEL",
        help="A checkpoint folder, or an installed model.  [default: the embedded model]",
        show_default=False,
        autocompletion=_installed,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="|".join(DEVICES),
        envvar="JANUS_DEVICE",
        help="Where to compute; cuda:1 is the second GPU.",
        autocompletion=_one_of(DEVICES),
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="How to hold the weights.",
        autocompletion=_one_of(PRECISIONS),
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="|".join(BACKENDS),
        help="Whose networks to run: janus' own, or transformers', to compare.",
        autocompletion=_one_of(BACKENDS),
    ),
]
Family = Annotated[
    str,
    typer.Option(
        "--family",
        metavar="|".join(FAMILIES),
        help="Whose prompts to write; a checkpoint shows its family.",
        autocompletion=_one_of(FAMILIES),
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="R",
        help="A branch, a tag or a commit of the repository.  [default: main]",
        show_default=False,
    ),
]
NewPrecision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(WRITTEN),
        help="How the new model holds its weights.",
        autocompletion=_one_of(WRITTEN),
        show_default=False,
    ),
]
NewFolder = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Where to write it; the folder may not exist.  [default: beside the other models]",
        show_default=False,
    ),
]

# Options of models that are kept warm

KeepAlive = Annotated[
    str | None,
    typer.Option(
        "--keep-alive",
        metavar="TIME",
        help="End when nobody has asked for so long, as in 30s, 10m or 2h.  [default: never]",
        show_default=False,
    ),
]
Http = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="HOST:PORT",
        help="Also answer OpenAI's clients there. Other machines have to show JANUS_API_KEY.",
        show_default=False,
    ),
]
RemoteImages = Annotated[
    bool,
    typer.Option(
        "--allow-remote-images", help="With --http, fetch pictures from http(s) addresses, too."
    ),
]
Background = Annotated[bool, typer.Option("--background", hidden=True)]
Chosen = Annotated[bool, typer.Option("--chosen", hidden=True)]
WarmModels = Annotated[list[str] | None, typer.Argument(metavar="NAME", hidden=True)]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")]
Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
]


def random_seed() -> int:
    """What --seed is where nobody gave one."""
    return int.from_bytes(os.urandom(4), "big") % RANDOM_SEEDS
