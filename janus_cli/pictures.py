"""Pictures → PNG files, whose paths, or one JSON object a line, go to standard output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import png, terminal
from .names import Targets
from .outcome import Outcome, report, sum_up
from .schema import Event, Failure, ImagineRequest, Picture, Progress
from .terminal import ProgressLine


def write_pictures(
    events: Iterable[Event],
    request: ImagineRequest,
    targets: Targets,
    progress: ProgressLine,
    *,
    as_json: bool,
) -> Outcome:
    """Write each picture to its file when it is drawn, then the contact sheet of its prompt."""
    outcome = Outcome(total=len(request.prompts))
    drawn: list[Picture] = []
    for event in events:
        if isinstance(event, Progress):
            progress.show(event.label, event.done, event.total)
        elif isinstance(event, Picture):
            progress.hide()
            drawn.append(event)
            path = targets.paths[event.index][event.seed - request.seed]
            png.write_picture(event, path, force=targets.force)
            _announce(path, _picture_record(event, path), as_json)
            if len(drawn) == request.count:
                if targets.grids:
                    grid = targets.grids[event.index]
                    png.write_grid(drawn, grid, force=targets.force)
                    _announce(grid, _grid_record(drawn, grid), as_json)
                drawn = []
        elif isinstance(event, Failure):
            progress.hide()
            drawn = []
            report(event, outcome, as_json)
    sum_up(outcome, as_json)
    return outcome


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


def _picture_record(picture: Picture, path: str) -> dict[str, Any]:
    record = {"path": path, **png.settings_of(picture)}
    return record | {"seconds": round(picture.seconds, 3)}


def _grid_record(pictures: list[Picture], path: str) -> dict[str, Any]:
    seconds = round(sum(picture.seconds for picture in pictures), 3)
    settings = png.settings_of(pictures[0])
    return {"path": path, "grid": True, **settings, "count": len(pictures), "seconds": seconds}
