"""imagine and info: flags → request → events → output, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from . import flags, terminal
from .dispatch import find_model, open_model
from .errors import ExitCode, InputError, UsageError
from .flags import random_seed
from .schema import ImagineRequest, ModelChoice


def imagine(
    prompts: flags.Prompts,
    count: flags.Count = 1,
    seed: flags.Seed = None,
    guidance: flags.Guidance = 5.0,
    temperature: flags.Temperature = 1.0,
    top_k: flags.TopK = 0,
    top_p: flags.TopP = 1.0,
    negative: flags.Negative = None,
    output: flags.Output = None,
    force: flags.Force = False,
    grid: flags.Grid = False,
    json: flags.Json = False,
    model: flags.Model = None,
    device: flags.Device = "auto",
    precision: flags.Precision = "auto",
    backend: flags.Backend = "janus",
    family: flags.Family = "auto",
) -> int:
    """Draw pictures, and print their paths.

    A PROMPT says what to draw; - reads one a line from standard input. A path is printed when its
    picture is complete. Picture i of a prompt depends on seed + i
    and on nothing else. An existing file is never replaced without --force.
    """
    from . import names
    from .pictures import write_pictures

    request = ImagineRequest(
        prompts=_prompts(prompts),
        count=count,
        seed=random_seed() if seed is None else seed,
        guidance=guidance,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        negative=negative,
    )
    choice = ModelChoice(model, device, precision, backend, family)
    targets = names.plan(request, output, grid=grid, force=force)
    path = find_model(choice)
    names.make_folders(targets)
    with terminal.ProgressLine("loading the model") as progress:
        draw = open_model(path, choice, drawing=True)
        return write_pictures(draw(request), request, targets, progress, as_json=json).exit_code


def info(file: flags.PictureFile, json: flags.Json = False) -> int:
    """Show what a picture was drawn from.

    FILE is a PNG that janus drew; it carries its prompt and all settings.
    """
    from .pictures import write_settings
    from .png import read_settings

    write_settings(file, read_settings(file), as_json=json)
    return ExitCode.OK


def _prompts(words: list[str]) -> tuple[str, ...]:
    """The prompts as given, with the lines of standard input in the place of `-`."""
    prompts: list[str] = []
    for word in words:
        prompts += _lines_of_stdin() if word == "-" else [word]
    if not prompts:
        raise UsageError("PROMPT: standard input holds no prompt; write one a line")
    return tuple(prompts)


def _lines_of_stdin() -> Iterable[str]:
    if sys.stdin is None:
        raise InputError("-: standard input is closed; pipe prompts in, one a line")
    text = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
    return (line.strip() for line in text.split("\n") if line.strip())
