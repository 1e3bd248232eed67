"""imagine and info: flags → request → events → output, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import drawing_flags, flags, terminal
from .dispatch import find_model, open_model
from .errors import ExitCode, UsageError
from .options import ModelOptions, RayOptions, spread
from .progress import ProgressLine
from .schema import ImagineRequest, ModelChoice, Wish

if TYPE_CHECKING:
    from .names import Targets


@dataclass(frozen=True)
class WishOptions:
    """How every prompt is drawn that does not say it otherwise."""

    count: drawing_flags.Count = 1
    seed: drawing_flags.Seed = None
    guidance: drawing_flags.Guidance = None
    steps: drawing_flags.Steps = None
    temperature: drawing_flags.Temperature = 1.0
    top_k: drawing_flags.TopK = 0
    top_p: drawing_flags.TopP = 1.0
    negative: drawing_flags.Negative = None

    def wish(self) -> Wish:
        """A wish for anything."""
        return Wish(
            prompt="anything",
            count=self.count,
            seed=flags.random_seed() if self.seed is None else self.seed,
            guidance=self.guidance,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            negative=self.negative,
            steps=self.steps,
        )


@spread
def imagine(
    words: drawing_flags.Prompts = None,
    prompts_from: drawing_flags.PromptsFrom = None,
    *,
    options: WishOptions,
    output: drawing_flags.Output = None,
    force: flags.Force = False,
    resume: drawing_flags.ResumePictures = False,
    grid: drawing_flags.Grid = False,
    json: flags.Json = False,
    cluster: RayOptions,
    model: ModelOptions,
) -> int:
    """Draw pictures, and print their paths.

    A PROMPT says what to draw; - reads one a line from standard input, and --prompts from a file,
    where each may have settings of its own. A path is printed when its picture is complete. Picture
    i of a prompt depends on seed + i and on nothing else. An existing file is never replaced
    without --force; --resume leaves out the pictures that are there.
    """
    from . import names, prompts

    orders = prompts.read(words or [], prompts_from, options.wish())
    if resume and options.seed is None and not all(order.own_seed for order in orders):
        raise UsageError("--resume: knows pictures by their seeds; add --seed of the former run")
    targets = names.plan(orders, output, grid=grid, force=force, resume=resume)
    request = ImagineRequest(tuple(order.wish for order in orders))
    return _draw(request, targets, model.choice(), cluster, json)


def _draw(
    request: ImagineRequest,
    targets: Targets,
    choice: ModelChoice,
    cluster: RayOptions,
    as_json: bool,
) -> int:
    from .names import make_folders
    from .pictures import write_pictures

    if targets.resume:
        request = _rest(request, targets, as_json)
        if all(len(wish.drawn) == wish.count for wish in request.wishes):
            return ExitCode.OK
    found = find_model(choice)
    make_folders(targets)
    with ProgressLine("loading the model") as progress:
        draw = open_model(found, request, cluster)
        return write_pictures(draw(request), request, targets, progress, as_json=as_json).exit_code


def _rest(request: ImagineRequest, targets: Targets, as_json: bool) -> ImagineRequest:
    """The request without what a former run has drawn, which is made complete: its leftovers go,
    its missing contact sheets come."""
    from . import drawn
    from .pictures import write_missing_grids

    drawn.remove_leftovers(targets)
    request = drawn.left_out(request, targets)
    before = sum(len(wish.drawn) for wish in request.wishes)
    if before:
        total = sum(wish.count for wish in request.wishes)
        terminal.say(f"{before} of {total} were drawn before")
    write_missing_grids(request, targets, as_json=as_json)
    return request


def info(file: drawing_flags.PictureFile, json: flags.Json = False) -> int:
    """Show what a picture was drawn from.

    FILE is a PNG that janus drew; it carries its prompt and all settings.
    """
    from .pictures import write_settings
    from .png import read_settings

    write_settings(file, read_settings(file), as_json=json)
    return ExitCode.OK
