"""What a bug report needs: versions, devices, memory, and how the chosen model would be run."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import __version__, weights
from .catalog import choose_largest
from .errors import ModelError, size_in_words
from .schema import Finding

PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub"),
    *("bitsandbytes", "pillow", "typer", "rich"),
)
VARIABLES = (
    *("JANUS_MODEL", "JANUS_DEVICE", "JANUS_WEIGHTS", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT"),
    *("HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "JANUS_VAE"),
    *("JANUS_KERNEL", "CC"),
)


def examine(model: str | None, device_name: str) -> Iterator[Finding]:
    """Everything, part by part; what is wrong is a finding, too."""
    yield from versions()
    yield from machine()
    yield from chosen_model(model, device_name)


def versions() -> Iterator[Finding]:
    yield Finding("versions", "janus", __version__)
    yield Finding("versions", "python", f"{platform.python_version()} ({sys.executable})")
    for package in PACKAGES:
        try:
            yield Finding("versions", package, version(package))
        except PackageNotFoundError:
            yield Finding("versions", package, "is not installed", wrong=True)


def machine() -> Iterator[Finding]:
    import torch

    from .engine.machine import free_memory
    from .engine.precision import multiplies_bf16

    yield Finding("machine", "system", platform.platform())
    capability = torch.backends.cpu.get_cpu_capability()
    products = "with" if multiplies_bf16() else "without"
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} threads"
    yield Finding("machine", "processor", f"{capability}, {products} products in bf16, {threads}")
    yield Finding("machine", "kernel", kernel_in_words())
    free = size_in_words(free_memory(torch.device("cpu")))
    yield Finding("machine", "memory", f"{free} free")
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        name = torch.cuda.get_device_name(device)
        free = size_in_words(free_memory(device))
        yield Finding(
            "machine", f"cuda:{number}", f"{name}, {free} free, CUDA {torch.version.cuda}"
        )
    if not torch.cuda.is_available():
        build = " (this torch is a CPU build)" if "+cpu" in torch.__version__ else ""
        yield Finding("machine", "cuda", f"not there{build}")
    if torch.backends.mps.is_available():
        yield Finding("machine", "mps", "there")
    for name in VARIABLES:
        if name in os.environ:
            yield Finding("environment", name, os.environ[name])


def kernel_in_words() -> str:
    """Whether steps on the processor are computed by our own kernel, or why not."""
    from .engine.kernel.library import Unusable, open_kernel

    try:
        return open_kernel()._name
    except Unusable as reason:
        return f"none, torch's own products are used: {reason}"


def chosen_model(model: str | None, device_name: str) -> Iterator[Finding]:
    from .engine.describe import check_tokenizer, describe
    from .engine.machine import choose_device

    try:
        name = model or choose_largest(device_name)
        path: Path = weights.find_model(name)
        yield Finding("model", "name", name)
        yield Finding("model", "folder", str(path))
        device = choose_device(device_name)
        found = describe(path, device)
        yield Finding("model", "family", found.family)
        yield Finding("model", "layout", found.layout)
        yield Finding("model", "stored in", found.precision)
        yield Finding("model", "numbers", f"{found.fit.numbers:,}")
        reasons = "".join(f"; {note}" for note in found.fit.notes)
        yield Finding("model", "auto takes", f"{found.fit.precision} on {device}{reasons}")
        needs = f"{size_in_words(found.fit.needs)} of {size_in_words(found.fit.free)} that are free"
        yield Finding("model", "memory", needs, wrong=not found.fit.fits)
        for line in check_tokenizer(path):
            bad = "MISSING" in line or "changed" in line
            yield Finding("model", "tokenizer", line, wrong=bad)
    except ModelError as error:
        yield Finding("model", "error", str(error), wrong=True)
