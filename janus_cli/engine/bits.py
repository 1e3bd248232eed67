"""bitsandbytes, imported late and quietly: it is wanted for few precisions and takes long."""

from __future__ import annotations

import functools
import logging
import sys
from types import ModuleType

from ..errors import ModelError


@functools.cache
def library() -> ModuleType:
    """The package bitsandbytes.

    On processors with AVX-512 its import tries to fetch a kernel from the hub, and warns when it
    cannot; it has one of its own for that case, so it finds no package to fetch with.

    Raises:
        ModelError: it is not installed, or cannot be loaded on this machine.
    """
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = "kernels" not in modules
    if hidden:
        modules["kernels"] = None  # Python's own way to say that an import must fail
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"this precision needs bitsandbytes, which cannot be loaded ({error}); "
            "pip install bitsandbytes, or choose another --precision"
        ) from error
    finally:
        logger.setLevel(level)
        if hidden:
            del modules["kernels"]
    return bitsandbytes
