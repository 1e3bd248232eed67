"""Options that several commands share, in groups that a command takes as one value each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from . import flags
from .errors import UsageError
from .schema import ModelChoice

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ModelOptions:
    """Which model answers."""

    model: flags.Model = None
    device: flags.Device = "auto"
    precision: flags.Precision = "auto"
    backend: flags.Backend = "janus"
    family: flags.Family = "auto"
    adapter: flags.Adapter = None

    def choice(self) -> ModelChoice:
        """The same with an adapter found, whose own model answers where none was chosen."""
        model, folder = self.model, None
        if self.adapter:
            from . import adapters

            adapter = adapters.find(self.adapter)
            model, folder = model or adapter.base, str(adapter.path.resolve())
        return ModelChoice(model, self.device, self.precision, self.backend, self.family, folder)


@dataclass(frozen=True)
class RayOptions:
    """Whether a cluster answers."""

    ray: flags.Ray = False
    ray_workers: flags.RayWorkers = None

    def __post_init__(self) -> None:
        if self.ray_workers is not None and not self.ray:
            raise UsageError("--ray-workers: says how many models --ray runs; add --ray")
        if self.ray_workers is not None and self.ray_workers < 1:
            raise UsageError("--ray-workers: must be at least 1")
        if self.ray:
            from .pool import require_ray

            require_ray()


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """The command as typer has to see it: every field of its groups an option of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _options(groups[name])
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=keyword, annotation=hints[name]))

    @functools.wraps(command)
    def spread_out(**values: Any) -> int:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        return command(**values, **made)

    spread_out.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread_out.__annotations__ = {option.name: option.annotation for option in parameters}
    return spread_out


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
