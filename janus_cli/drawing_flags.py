"""The arguments and options of imagine and info."""

from __future__ import annotations

from typing import Annotated

import typer

from .schema import CODE_GUIDANCE, FLOW_GUIDANCE, FLOW_STEPS

# Arguments are hidden because typer's help would call them lists of str; the usage line names them
# and the help text of the command explains them.

Prompts = Annotated[list[str] | None, typer.Argument(metavar="PROMPT", hidden=True)]
PictureFile = Annotated[str, typer.Argument(metavar="FILE", hidden=True)]
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
        help="How closely to follow the prompt.  [default: the model's own, mostly "
        f"{CODE_GUIDANCE:g}; of JanusFlow {FLOW_GUIDANCE:g}]",
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
ResumePictures = Annotated[
    bool,
    typer.Option("--resume", help="Draw what a former run with the same --seed has not drawn."),
]
Grid = Annotated[
    bool, typer.Option("--grid", help="Also write a contact sheet of each prompt, ...-grid.png.")
]
