"""Pictures → PNG files, whose paths, or one JSON object a line, go to standard output."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from . import drawn, png, terminal
from .errors import OutputError
from .names import Targets
from .outcome import Outcome, report, sum_up
from .progress import ProgressLine
from .schema import Event, Failure, ImagineRequest, Picture, Progress, Wish


def write_pictures(
    events: Iterable[Event],
    request: ImagineRequest,
    targets: Targets,
    progress: ProgressLine,
    *,
    as_json: bool,
) -> Outcome:
    """Write each picture to its file when it is drawn, then the contact sheet of its prompt."""
    outcome = Outcome(total=len(request.wishes))
    pictures: dict[int, Picture] = {}
    """Of the wish that is being drawn, by i."""
    for event in events:
        if isinstance(event, Progress):
            progress.show(event.label, event.done, event.total, counted=event.counted)
        elif isinstance(event, Picture):
            progress.hide()
            wish, i = request.wishes[event.index], event.seed - request.wishes[event.index].seed
            pictures[i] = event
            _write_picture(event, i, wish, targets, as_json)
            if len(pictures) == wish.count - len(wish.drawn):
                if targets.grids:
                    _write_grid(event.index, wish, pictures, targets, as_json)
                pictures = {}
        elif isinstance(event, Failure):
            progress.hide()
            report(event, outcome, as_json)
    sum_up(outcome, as_json)
    return outcome


def write_missing_grids(request: ImagineRequest, targets: Targets, *, as_json: bool) -> None:
    """Write the contact sheets of the wishes whose pictures a former run has all drawn."""
    for index, (wish, grid) in enumerate(zip(request.wishes, targets.grids, strict=False)):
        if len(wish.drawn) == wish.count and not os.path.lexists(grid):
            _write_grid(index, wish, {}, targets, as_json)


def _write_picture(picture: Picture, i: int, wish: Wish, targets: Targets, as_json: bool) -> None:
    """Write a picture, unless another run has written the same one meanwhile."""
    path = targets.paths[picture.index][i]
    try:
        png.write_picture(picture, path, force=targets.force)
    except OutputError:
        if targets.resume and drawn.is_there(path, wish, i):
            return
        raise
    _announce(path, _picture_record(picture, i, path), as_json)


def _write_grid(
    index: int, wish: Wish, pictures: dict[int, Picture], targets: Targets, as_json: bool
) -> None:
    """Write the contact sheet of a wish: of these pictures, and of those in its files."""
    paths, grid = targets.paths[index], targets.grids[index]
    whole = [pictures.get(i) or png.read_picture(path, index) for i, path in enumerate(paths)]
    try:
        png.write_grid(whole, grid, force=targets.force)
    except OutputError:
        if not (targets.resume and drawn.is_there(grid, wish)):
            raise
        png.write_grid(whole, grid, force=True)  # in the place of one that shows fewer
    _announce(grid, _grid_record(whole, grid), as_json)


def write_settings(path: str, settings: dict[str, Any], *, as_json: bool) -> None:
    """Write what a picture carries: a line a setting, or one object."""
    if as_json:
        terminal.write_json({"path": path, **settings})
        return
    for name, value in settings.items():
        if value is not None:
            terminal.write(f"{terminal.one_line(name)}: {terminal.one_line(str(value))}\n")


def _announce(path: str, record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.write_json(record)
    else:
        terminal.write_path(path)


def _picture_record(picture: Picture, i: int, path: str) -> dict[str, Any]:
    record = {"path": path, **png.settings_of(picture), "index": picture.index, "i": i}
    return record | {"seconds": round(picture.seconds, 3)}


def _grid_record(pictures: list[Picture], path: str) -> dict[str, Any]:
    """Of a contact sheet; `seconds` leaves out what a former run has drawn."""
    first = pictures[0]
    record = {"path": path, "grid": True, **png.settings_of(first), "index": first.index}
    seconds = round(sum(picture.seconds for picture in pictures), 3)
    return record | {"count": len(pictures), "seconds": seconds}
