"""The tensors in a checkpoint's files, by name, each read when it is asked for."""

from __future__ import annotations

import ctypes
import json
import mmap
import pickle
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
MADV_DONTNEED = 4  # on Linux, macOS and the BSDs alike
FILES = ("*.safetensors", "pytorch_model*.bin")  # in the order of preference


@dataclass(frozen=True)
class Stored:
    """A tensor that still lies in its file."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def open_tensors(folder: Path, stack: ExitStack) -> dict[str, Stored]:
    """Every tensor of a folder; its files stay open, memory-mapped, as long as `stack` does.

    Where a folder holds both kinds of file, safetensors are read and `.bin` files left alone.

    Raises:
        ModelError: no file, a damaged one, one that its index names and that is not there, or a
            pickle that would run code.
    """
    found: dict[str, Stored] = {}
    for file in weight_files(folder):
        opened = open_safetensors(file, stack) if file.suffix == ".safetensors" else open_bin(file)
        found.update(opened)
    return found


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, as the index names them where there is one."""
    for index, pattern in zip(INDEXES, FILES, strict=True):
        if (folder / index).is_file():
            return indexed_files(folder / index)
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise ModelError(f"{folder}: holds no .safetensors or .bin weights; is the download complete?")


def indexed_files(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: cannot be read ({error}); fetch it again") from error
    files = [index.parent / name for name in names]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{file}: is missing, though {index.name} names it; fetch it")
    return files


def open_safetensors(file: Path, stack: ExitStack) -> dict[str, Stored]:
    try:
        opened = stack.enter_context(safe_open(file, framework="pt"))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: damaged ({error}); fetch it again") from error
    return {
        name: Stored(tuple(opened.get_slice(name).get_shape()), partial(opened.get_tensor, name))
        for name in opened.keys()  # noqa: SIM118 - safe_open is no mapping
    }


def open_bin(file: Path) -> dict[str, Stored]:
    """A pickle of tensors. Only tensors: whatever else would be called is refused, not called."""
    try:
        tensors = torch.load(file, weights_only=True, mmap=True, map_location="cpu")
        return {name: Stored(tuple(t.shape), partial(as_it_is, t)) for name, t in tensors.items()}
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file}: holds more than tensors and might run code; refused. Use a checkpoint in "
            "safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, AttributeError, ValueError) as error:
        raise ModelError(f"{file}: damaged ({error}); fetch it again") from error


def as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def let_go(tensor: Tensor) -> None:
    """Give back the memory of a mapped tensor that nobody needs any more.

    Without it every page that was read stays resident beside the copy that was made of it. The
    file's pages remain in the page cache, and would be read again.
    """
    if sys.platform == "win32":
        return
    start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    page = mmap.PAGESIZE
    first, last = -(-start // page) * page, (start + size) // page * page
    if last > first:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)
