"""The commands about models: fetch, list, remove, quantize, examine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from . import adapters, flags, model_flags, terminal, weights
from .errors import ExitCode, UsageError
from .progress import ProgressLine
from .schema import WRITTEN, ModelChoice, require_one_of


def pull(model: model_flags.ModelToPull, revision: model_flags.Revision = None) -> int:
    """Fetch a model from the Hugging Face hub, and print its folder.

    NAME is janus-1.3b, janusflow-1.3b, janus-pro-1b or janus-pro-7b; REPO is any other repository
    of a Janus model, as owner/name. What is in the hub's cache already is not fetched again; a pull
    that broke off goes on where it was. --model then takes the same name.
    """
    from . import hub

    with ProgressLine("asking the hub", in_bytes=True) as progress:
        folder = str(hub.pull(model, revision, progress))
    terminal.write_path(folder)
    if terminal.is_terminal(sys.stderr):
        name = shlex.quote(folder if revision else model)
        terminal.say(f'use it so: janus ask --model {name} photo.jpg "what is this?"')
    return ExitCode.OK


def models(device: flags.Device = "auto", json: flags.Json = False) -> int:
    """List the installed models, whether they fit, and the adapters.

    Those that were pulled, trained, quantized or put into the weights folder, and the embedded
    one. RUNS AT is the precision that fits, and MEMORY what running the model at it takes.
    """
    from .catalog import adapter_entries, entries
    from .reports import write_adapters, write_entries

    ModelChoice(device=device)  # checks it
    with ProgressLine("looking into the models"):
        found = list(entries(device))
    write_entries(found, as_json=json)
    write_adapters(adapter_entries(), as_json=json)
    return ExitCode.OK


def rm(model: model_flags.InstalledModel, yes: model_flags.Yes = False) -> int:
    """Remove an installed model or adapter from the disk.

    One that was pulled is taken out of the hub's cache, which other tools share; what another
    model in the cache needs stays. In a terminal you are asked first.
    """
    from .removal import plan_removal

    removal = plan_removal(model)
    if not yes and not terminal.confirm(f"remove {removal.path} ({removal.size})?"):
        raise UsageError("nothing was removed; add --yes to remove it without being asked")
    removal.execute()
    terminal.say(f"removed {model}, {removal.size}")
    return ExitCode.OK


def quantize(
    model: model_flags.ModelToQuantize,
    precision: model_flags.NewPrecision,
    output: model_flags.NewFolder = None,
    device: flags.Device = "auto",
    adapter: flags.Adapter = None,
) -> int:
    """Write a model at a lower precision, and print its folder.

    It answers as the original does with the same --precision, but loads at the speed of the disk.
    Without -o it becomes an installed model, NAME-PRECISION. With --adapter it has learned what the
    adapter has.
    """
    require_one_of("--precision", precision, WRITTEN)
    ModelChoice(device=device)  # checks it
    path = weights.find_model(model)
    found = adapters.find(adapter) if adapter else None
    name = f"{_base_name(model)}+{found.name}" if found else _base_name(model)
    folder = Path(output) if output else weights.shelf() / f"{name}-{precision}"
    with ProgressLine("quantizing", in_bytes=True) as progress:
        from .engine.machine import choose_device
        from .engine.quantize import quantize_checkpoint

        steps = quantize_checkpoint(
            path,
            folder,
            precision,
            device=choose_device(device),
            adapter=str(found.path) if found else None,
        )
        for step in steps:
            progress.show(step.label, step.done, step.total)
    terminal.write_path(str(folder))
    return ExitCode.OK


def doctor(
    model: flags.Model = None, device: flags.Device = "auto", json: flags.Json = False
) -> int:
    """Show what a bug report needs.

    Versions, devices, memory, and how a model would be run: the one of --model, else the one that
    would answer. What is wrong is marked with !, and makes the exit code 3.
    """
    from .doctor import examine
    from .reports import write_findings

    ModelChoice(device=device)  # checks it
    sound = write_findings(examine(model, device), as_json=json)
    return ExitCode.OK if sound else ExitCode.MODEL


def _base_name(model: str) -> str:
    """What a quantized model's name begins with."""
    return Path(model).resolve().name if Path(model).is_dir() else Path(model).name
