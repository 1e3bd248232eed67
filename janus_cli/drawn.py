"""What a former run of `imagine` has drawn, told by what its files carry. It draws nothing."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import replace
from typing import Any

from .errors import InputError, OutputError
from .names import Targets
from .png import read_settings
from .schema import FLOW_STEPS, ImagineRequest, Wish

LEFTOVER = re.compile(r"\.janus-(\d+)(-[0-9a-f]{8})?\.tmp")


def left_out(request: ImagineRequest, targets: Targets) -> ImagineRequest:
    """The request without the pictures that are there.

    Raises:
        OutputError: something else has the name of a picture or of a contact sheet that is still to
            be drawn; with `force` it is drawn over.
    """
    wishes = []
    for index, wish in enumerate(request.wishes):
        paths = enumerate(targets.paths[index])
        there = tuple(i for i, path in paths if is_there(path, wish, i, force=targets.force))
        wishes.append(replace(wish, drawn=there))
        if targets.grids and len(there) < wish.count:
            is_there(targets.grids[index], wish, force=targets.force)
    return ImagineRequest(tuple(wishes))


def is_there(path: str, wish: Wish, i: int | None = None, *, force: bool = False) -> bool:
    """Whether a file holds picture i of a wish, whole, or without i its contact sheet.

    Raises:
        OutputError: it holds something else; with `force` that counts as nothing.
    """
    if not os.path.lexists(path):
        return False
    try:
        found = read_settings(path, whole=True)
    except InputError:
        found = {}
    is_sheet = "count" in found
    flows = found.get("steps") is not None
    if is_sheet == (i is None) and _settings(wish, i or 0, flows=flows).items() <= found.items():
        return True
    if force:
        return False
    raise OutputError(
        f"{path}: exists and is not what would be drawn there; use --force to draw over it, or -o"
    )


def remove_leftovers(targets: Targets) -> None:
    """Remove what runs that were killed while they wrote have left beside their pictures."""
    import psutil

    for folder in targets.folders():
        with contextlib.suppress(OSError):  # names.make_folders says what is wrong
            for name in os.listdir(folder):
                match = LEFTOVER.fullmatch(name)
                if match and not psutil.pid_exists(int(match[1])):
                    with contextlib.suppress(OSError):  # another run was quicker
                        os.unlink(os.path.join(folder, name))


def _settings(wish: Wish, i: int, *, flows: bool) -> dict[str, Any]:
    """What makes a picture the one that is wished for, whatever model of its kind drew it.

    Guidance that was not asked for is the model's own, and no model is open here.
    """
    steps = {"steps": wish.steps or FLOW_STEPS} if flows or wish.steps is not None else {}
    guidance = {} if wish.guidance is None else {"guidance": wish.guidance}
    return {
        **steps,
        **guidance,
        "prompt": wish.prompt,
        "negative": wish.negative,
        "seed": wish.seed + i,
        "temperature": wish.temperature,
        "top_k": wish.top_k,
        "top_p": wish.top_p,
    }
