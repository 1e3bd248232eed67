"""The arguments and options of the commands about models, and of those that keep them warm."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from . import weights
from .errors import UsageError
from .flags import installed, installed_adapters, one_of
from .schema import WRITTEN

if TYPE_CHECKING:
    from .http.server import Door


def installed_or_adapter(incomplete: str) -> list[str]:
    """Completion of whatever can be removed."""
    return installed(incomplete) + installed_adapters(incomplete)


# Arguments are hidden because typer's help would call them lists of str; the usage line names them
# and the help text of the command explains them.

ModelToPull = Annotated[
    str,
    typer.Argument(metavar="NAME|REPO", hidden=True, autocompletion=one_of(tuple(weights.NAMES))),
]
ModelToQuantize = Annotated[
    str, typer.Argument(metavar="PATH|NAME", hidden=True, autocompletion=installed)
]
InstalledModel = Annotated[
    str, typer.Argument(metavar="NAME", hidden=True, autocompletion=installed_or_adapter)
]
WarmModels = Annotated[list[str] | None, typer.Argument(metavar="NAME", hidden=True)]
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
        autocompletion=one_of(WRITTEN),
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
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")]
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


@dataclass(frozen=True)
class HttpOptions:
    """Whether and how HTTP is spoken."""

    http: Http = None
    allow_remote_images: RemoteImages = False

    def open(self) -> Door | None:
        """Where clients come in, if they are to; nobody is let in yet."""
        if self.http is None:
            if self.allow_remote_images:
                raise UsageError("--allow-remote-images: is for --http; add that, or leave it out")
            return None
        from .http.server import Door

        key = os.environ.get("JANUS_API_KEY", "").strip(" \t") or None
        return Door.at(self.http, key=key, remote=self.allow_remote_images)
