"""What this machine has to compute with: its devices and their memory, and when that runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch

from ..errors import ModelError

OUT_OF_MEMORY = (  # what torch says in a plain RuntimeError
    "can't allocate memory",  # on a CPU
    "not enough memory",  # on a CPU under Windows
    "out of memory",  # from a CUDA library, and on MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
)
CONTROL_GROUP = Path("/sys/fs/cgroup")  # where a container's limit shows on Linux


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then Apple's MPS, then the CPU; a device that is not there is an error."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"--device {name}: is no device; try cpu, cuda or cuda:0") from error
    beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available.get(device.type, False) or beyond:
        hint = ""
        if device.type == "cuda" and "+cpu" in torch.__version__:
            hint = " (this torch is a CPU build)"
        raise ModelError(f"--device {name}: not on this machine{hint}; try --device cpu")
    return device


def processor() -> dict[str, Any]:
    """What torch knows of the processor, by its names; nothing in older releases of torch.

    Without what torch may not use: ATEN_CPU_CAPABILITY=avx2 holds everything here to AVX2.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return capabilities
    wider = ("avx512", "amx")
    return {name: there for name, there in capabilities.items() if not name.startswith(wider)}


def free_memory(device: torch.device) -> int:
    """Bytes that a model may take on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free: int = psutil.virtual_memory().available
    contained = free_in_container()
    return free if contained is None else min(free, contained)


def free_in_container() -> int | None:
    """Bytes left under the limit of a control group (version 2); None where there is none."""
    try:
        limit = (CONTROL_GROUP / "memory.max").read_text().strip()
        used = int((CONTROL_GROUP / "memory.current").read_text())
        lines = (CONTROL_GROUP / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, StopIteration):
        return None
    return None if limit == "max" else max(0, int(limit) - used + cached)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device has run out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY)


def give_back_memory(device: torch.device) -> None:
    """Let others have what torch keeps of the device's memory without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
