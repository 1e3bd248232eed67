"""serve, ps and stop: models that are kept warm."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from . import __version__, flags, model_flags, runtime, terminal
from .client import Warm, every
from .errors import ExitCode, UsageError
from .model_flags import HttpOptions
from .options import ModelOptions, spread
from .progress import ProgressLine


@spread
def serve(
    keep_alive: model_flags.KeepAlive = None,
    background: model_flags.Background = False,
    chosen: model_flags.Chosen = False,
    *,
    model: ModelOptions,
    http: HttpOptions,
) -> int:
    """Keep a model warm, for all commands that follow.

    describe, ask, ocr and imagine use it by themselves when it is the model that they want. With
    JANUS_KEEP_ALIVE=10m the first of them starts it, and it ends when it was not used for so long.
    """
    from .dispatch import find_path

    if model.backend != "janus":
        raise UsageError("--backend: only janus' own networks are kept warm; leave the flag")
    seconds = None if keep_alive is None else runtime.seconds_of(keep_alive)
    door = http.open()
    choice = model.choice()
    path = find_path(choice)
    socket_path = runtime.socket_path(runtime.folder(), os.getpid())
    with ProgressLine("loading the model"):
        from .engine.decode import Native
        from .engine.load import open_engine
        from .engine.shared import Shared

        engine = open_engine(path, choice)
        assert isinstance(engine, Native)
    from .server import Server
    from .standby import standing_by

    warm = Warm(
        socket=socket_path,
        pid=os.getpid(),
        version=__version__,
        path=str(path.resolve()),
        name=engine.name,
        device=str(engine.model.device),
        precision=engine.precision,
        family=choice.family,
        chosen=chosen or choice.model is None,
        keep_alive=seconds,
        since=time.time(),
        under_way=0,
        adapter=choice.adapter,
    )
    shared = Shared(engine)
    with (
        runtime.listen(socket_path) as listener,
        standing_by(runtime.socket_path(runtime.folder(), os.getpid(), runtime.STANDBY)),
        door.serving(shared) if door else contextlib.nullcontext(),
    ):
        at = f"{warm.precision} on {warm.device}"
        terminal.say(f"{warm.name} is warm at {at}; janus stop ends it")
        if background:
            _part()
        Server(shared, warm).serve(listener)
    return ExitCode.OK


def ps(json: flags.Json = False) -> int:
    """List the warm models."""
    from .reports import write_warm

    write_warm(list(every()), as_json=json)
    return ExitCode.OK


def stop(models: model_flags.WarmModels = None) -> int:
    """End warm models: those that are named, or all.

    What they have under way is broken off.
    """
    found = list(every())
    for name in models or []:
        if name not in {warm.name for warm in found}:
            raise UsageError(f"{name}: is not warm; janus ps shows which models are")
    for warm in found:
        if not models or warm.name in models:
            warm.stop()
            terminal.say(f"{warm.name} (process {warm.pid}) is stopped")
    return ExitCode.OK


def _part() -> None:
    """Tell the client that started this process that all is ready, and let go of it."""
    terminal.write("ready\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
