"""The kernel as a library: compiled once on a machine, then loaded from the user's cache.

It is for processors with dot products of 8 and of 16 bits in vectors of 512 (AVX-512 with VNNI and
BF16), and there only where a C compiler is: elsewhere torch's own products are what there is.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from ..machine import processor

HERE = Path(__file__).parent
SOURCES = ("matrix.c", "step.c")
HEADERS = ("kernel.h",)
SWITCH = "JANUS_KERNEL"  # "off": do without
EXTENSIONS = ("f", "bw", "vl", "dq", "vnni", "bf16")
OPTIONS = (
    *("-O3", "-std=gnu11", "-fPIC", "-fopenmp", "-ffp-contract=off", "-Wall", "-Wextra"),
    *(f"-mavx512{extension}" for extension in EXTENSIONS),
    *("-mfma", "-mf16c"),
)
PATIENCE = 120  # seconds for a compiler; it takes three


class Unusable(Exception):
    """Why there is no kernel here."""


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The library, or None where this machine has no use for it or cannot make it."""
    try:
        return open_kernel()
    except Unusable:
        return None


def open_kernel() -> ctypes.CDLL:
    """The library, compiled if it is not there yet.

    Raises:
        Unusable: why not.
    """
    if os.environ.get(SWITCH) == "off":
        raise Unusable(f"{SWITCH}=off")
    missing = missing_instructions()
    if missing:
        raise Unusable(f"this processor has no {missing}")
    share_threads()
    path = library_path()
    if not path.exists():
        compile_library(path)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unusable(f"what was compiled cannot be loaded: {error}") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.janus_multiply.argtypes = (pointer, pointer, number, pointer, number)
    library.janus_tile_nf4.argtypes = (pointer, number, number, pointer, number)
    library.janus_tile_int4.argtypes = (pointer, number, number, pointer, number)
    library.janus_step.argtypes = (pointer, pointer, pointer)
    return library


def missing_instructions() -> str:
    """The first extension that the kernel needs and this processor lacks; empty where none."""
    capabilities = processor()
    wanted = (f"avx512_{extension}" for extension in EXTENSIONS)
    return next((name for name in wanted if not capabilities.get(name)), "")


def share_threads() -> None:
    """Let the kernel find the OpenMP that torch runs on: with two, each waits for the other's."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError as error:
        raise Unusable("it is for Linux") from error
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "libgomp" in line}
    if not paths:
        raise Unusable("torch does not run on GNU's OpenMP here")
    path = min(paths, key=lambda path: "torch" not in path)  # another package may bring its own
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def library_path() -> Path:
    """Where the library of these sources lies."""
    digest = hashlib.sha256("\0".join(OPTIONS).encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((HERE / name).read_bytes())
    return platformdirs.user_cache_path("janus") / f"kernel-{digest.hexdigest()[:16]}.so"


def compile_library(path: Path) -> None:
    """Compile the sources; the library appears whole or not at all."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise Unusable("there is no C compiler (cc)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="kernel-") as place:
            objects = [f"{name.removesuffix('.c')}.o" for name in SOURCES]
            run(compiler, "-c", *OPTIONS, *(str(HERE / name) for name in SOURCES), folder=place)
            # Without -fopenmp, which would name a second libgomp.
            run(compiler, "-shared", "-o", "kernel.so", *objects, "-lm", folder=place)
            (Path(place) / "kernel.so").replace(path)
    except OSError as error:
        raise Unusable(f"{path.parent}: {error.strerror}") from error


def run(*command: str, folder: str) -> None:
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unusable(f"{command[0]} took more than {PATIENCE} s") from error
    if ended.returncode:
        last = next(iter(ended.stderr.strip().splitlines()[-1:]), "")
        raise Unusable(f"{command[0]} cannot compile it: {last}")
