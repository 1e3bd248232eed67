"""The arguments and options of describe, ask and ocr, and the groups that they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from .flags import Force, Json, one_of, random_seed
from .schema import DETAILS

# Arguments are hidden because typer's help would call them lists of str; the usage line names them
# and the help text of the command explains them.

Images = Annotated[list[str] | None, typer.Argument(metavar="IMAGE", hidden=True)]
Question = Annotated[str | None, typer.Argument(metavar="QUESTION", hidden=True)]
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
        metavar="|".join(DETAILS), help="How much to say.", autocompletion=one_of(DETAILS)
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


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures are meant, beside those that are named."""

    recursive: Recursive = False
    files_from: FilesFrom = None
    null: Null = False


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are found."""

    max_tokens: MaxTokens = 512
    temperature: AnswerTemperature = 0.0
    seed: AnswerSeed = None

    def fixed_seed(self) -> int:
        """The seed as given; a greedy answer needs none."""
        if self.seed is not None:
            return self.seed
        return random_seed() if self.temperature > 0 else 0


@dataclass(frozen=True)
class OutputOptions:
    """Where answers go, and as what."""

    json: Json = False
    output: AnswerFile = None
    out: AnswerFolder = None
    resume: ResumeAnswers = False
    force: Force = False
