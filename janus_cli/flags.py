"""The options that many commands share, each declared once. Knows names, not what they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from . import __version__, terminal, weights
from .schema import (
    BACKENDS,
    DEVICES,
    FAMILIES,
    PRECISIONS,
)

RANDOM_SEEDS = 2**31


def one_of(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Completion of a fixed set of words; the request itself checks the value."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def installed(incomplete: str) -> list[str]:
    """Completion of the names of models."""
    return [name for name in weights.installed() if name.startswith(incomplete)]


def installed_adapters(incomplete: str) -> list[str]:
    """Completion of the names of adapters."""
    from . import adapters

    return [name for name in adapters.installed() if name.startswith(incomplete)]


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.write(f"janus {__version__}\n")
        raise typer.Exit()


Json = Annotated[bool, typer.Option("--json", help="Write one JSON object a line.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
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
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PATH|NAME",
        envvar="JANUS_MODEL",
        help="A checkpoint folder, or an installed model.  [default: the embedded model]",
        show_default=False,
        autocompletion=installed,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="|".join(DEVICES),
        envvar="JANUS_DEVICE",
        help="Where to compute; cuda:1 is the second GPU.",
        autocompletion=one_of(DEVICES),
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="How to hold the weights.",
        autocompletion=one_of(PRECISIONS),
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="|".join(BACKENDS),
        help="Whose networks to run: janus' own, or transformers', to compare.",
        autocompletion=one_of(BACKENDS),
    ),
]
Family = Annotated[
    str,
    typer.Option(
        "--family",
        metavar="|".join(FAMILIES),
        help="Whose prompts to write; a checkpoint shows its family.",
        autocompletion=one_of(FAMILIES),
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="PATH|NAME",
        help="What janus train --lora or --aligners has made of a model; without --model, that "
        "model answers.",
        show_default=False,
        autocompletion=installed_adapters,
    ),
]
Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
]


def random_seed() -> int:
    """What --seed is where nobody gave one."""
    return int.from_bytes(os.urandom(4), "big") % RANDOM_SEEDS
