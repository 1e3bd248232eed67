"""The kernel as a library: compiled once on a machine, then loaded from the user's cache.

It is for processors with AVX2 and, twice as fast at products, for those with AVX-512 that have dot
products of 8 and of 16 bits; with AMX too, many rows take less than half the time once more.
It is there only where a C compiler is; elsewhere torch's own products are what there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from ..machine import processor

HERE = Path(__file__).parent
SOURCES = ("amx.c", "matrix.c", "nf4.c", "step.c")
HEADERS = ("kernel.h", "vector.h")
SWITCH = "JANUS_KERNEL"  # "off": do without; or one of VECTORS, which are tried in this order
AVX512 = {
    f"avx512_{extension}": f"-mavx512{extension}"
    for extension in ("f", "bw", "vl", "dq", "vnni", "bf16")
}
VECTORS = {  # what they are made of, as torch calls it, and as compilers do
    "amx": {**AVX512, "amx_tile": "-mamx-tile", "amx_bf16": "-mamx-bf16"},
    "avx512": AVX512,
    "avx2": {"avx2": "-mavx2", "fma3": "-mfma", "f16c": "-mf16c"},
}
OPTIONS = ("-O3", "-std=gnu11", "-fPIC", "-fopenmp", "-ffp-contract=off", "-Wall", "-Wextra")
ASK_FOR_AMX = (158, 0x1023, 18)  # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) on x86-64
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
    *newer, oldest = choose_vectors()
    share_threads()
    for vectors in newer:
        with contextlib.suppress(Unusable):  # a compiler may know AVX2 and not AMX
            return load_library(vectors)
    return load_library(oldest)


def load_library(vectors: str) -> ctypes.CDLL:
    """That of these vectors."""
    path = library_path(vectors)
    if not path.exists():
        compile_library(path, options(vectors))
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unusable(f"what was compiled cannot be loaded: {error}") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.janus_multiply.argtypes = (pointer, pointer, number, pointer, number)
    if hasattr(library, "janus_multiply_many"):  # with AMX alone
        library.janus_multiply_many.argtypes = library.janus_multiply.argtypes
    library.janus_quantize_nf4.argtypes = (pointer, number, pointer, pointer, number)
    library.janus_step.argtypes = (pointer, pointer, pointer)
    return library


def choose_vectors() -> list[str]:
    """Those of VECTORS that this processor has, or the one of them that is wanted."""
    wanted = os.environ.get(SWITCH, "")
    if wanted == "off":
        raise Unusable(f"{SWITCH}=off")
    if wanted and wanted not in VECTORS:
        raise Unusable(f"{SWITCH}={wanted} is none of off, {', '.join(VECTORS)}")
    missing = {name: what_lacks(name) for name in ([wanted] if wanted else VECTORS)}
    found = [name for name, lacking in missing.items() if not lacking]
    if not found:
        raise Unusable(f"this processor has no {list(missing.values())[-1]}")
    return found


def what_lacks(vectors: str) -> str:
    """The first part of VECTORS that is not to be had here, or nothing."""
    capabilities = processor()
    for name in VECTORS[vectors]:
        if not capabilities.get(name):
            return name
    if vectors == "amx" and not may_use_amx():
        return "AMX for this process"
    return ""


@functools.cache
def may_use_amx() -> bool:
    """Ask Linux for its registers, which a process does not have unasked."""
    failed: int = ctypes.CDLL(None).syscall(*ASK_FOR_AMX)
    return not failed


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


def library_path(vectors: str) -> Path:
    """Where the library of these sources lies."""
    digest = hashlib.sha256("\0".join(options(vectors)).encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((HERE / name).read_bytes())
    return platformdirs.user_cache_path("janus") / f"kernel-{vectors}-{digest.hexdigest()[:16]}.so"


def options(vectors: str) -> tuple[str, ...]:
    """How the sources are compiled."""
    return (*OPTIONS, *VECTORS[vectors].values(), "-mfma", "-mf16c")


def compile_library(path: Path, options: Sequence[str]) -> None:
    """Compile the sources; the library appears whole or not at all."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise Unusable("there is no C compiler (cc)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="kernel-") as place:
            objects = [f"{name.removesuffix('.c')}.o" for name in SOURCES]
            run(compiler, "-c", *options, *(str(HERE / name) for name in SOURCES), folder=place)
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
