"""Safetensors files written one tensor at a time, for models that are larger than the memory.

The safetensors package writes what is held in memory as a whole; the format itself, a header of
JSON and then the bytes, asks for no such thing: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

ALIGNMENT = 64  # of the numbers in the file, and so in memory when the file is mapped
DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


class SafetensorsWriter:
    """Writes tensors, in any order, to the places that a header promised them."""

    def __init__(self, path: Path, promised: Mapping[str, Tensor]) -> None:
        """`promised` has the shapes and dtypes to come; it may lie on the meta device."""
        self.path = path
        sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in promised.items()}
        # Odd sizes last, since the format allows no gaps and they would push others off alignment.
        order = sorted(sizes, key=lambda name: sizes[name] % ALIGNMENT != 0)
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self.places: dict[str, int] = {}
        place = 0
        for name in order:
            tensor, end = promised[name], place + sizes[name]
            header[name] = {
                "dtype": DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [place, end],
            }
            self.places[name], place = place, end
        text = json.dumps(header, separators=(",", ":")).encode()
        self.header = text + b" " * (-(len(text) + 8) % ALIGNMENT)
        self.promised = promised

    def __enter__(self) -> SafetensorsWriter:
        self.file = self.path.open("wb")
        self.file.write(len(self.header).to_bytes(8, "little") + self.header)
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor; its shape and dtype must be those promised."""
        promised = self.promised[name]
        if tensor.shape != promised.shape or tensor.dtype != promised.dtype:
            raise AssertionError(f"{name} is not what was promised")
        self.file.seek(8 + len(self.header) + self.places.pop(name))
        self.file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()
        if error is None and self.places:
            raise AssertionError(f"{len(self.places)} tensors were promised and not written")
