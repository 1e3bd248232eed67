"""Weights that the kernel multiplies by, and the products. It knows tensors, not layers.

Letters: N outputs, K inputs, G groups of K.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import kernel

KINDS = {"bf16": 0, "int8": 1, "int4": 2, "nf4": 3}  # enum Kind of kernel.h
LANES = 16  # outputs that are computed at once
GROUPS = {"bf16": 32, "int8": 32, "int4": 32, "nf4": 64}  # K is a multiple of these
FOUR_BITS = ("int4", "nf4")
PAIR = 2 * LANES  # outputs that AMX computes at once
LONG = 128  # positions of a sequence: captions are shorter, and pictures longer
MOST_INPUTS = 1 << 14  # of int8, so that its sums stay within 32 bits a lane


class Description(ctypes.Structure):
    """Matrix of kernel.h."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    )


class Matrix:
    """A weight (N, K) as the kernel reads it; it keeps the tensors that hold it."""

    def __init__(self, kind: str, outputs: int, inputs: int, codes: Tensor, scales: Tensor) -> None:
        self.kind, self.outputs, self.inputs = kind, outputs, inputs
        self.codes, self.scales = codes, scales
        self.description = Description(
            KINDS[kind], outputs, inputs, codes.data_ptr(), scales.data_ptr()
        )
        self.pointer = ctypes.addressof(self.description)

    def multiply(self, x: Tensor) -> Tensor:
        """x (..., K) times the weight, transposed: (..., N), of the dtype of x.

        A row's numbers do not depend on the rows beside it.
        """
        if is_long(x) and self.takes_many:
            return self.multiply_many(x)
        rows = x.reshape(-1, self.inputs).float().contiguous()
        out = torch.empty(len(rows), self.outputs)
        failed = loaded().janus_multiply(
            self.pointer, rows.data_ptr(), len(rows), out.data_ptr(), torch.get_num_threads()
        )
        if failed:
            raise MemoryError("the rows of a product")
        return out.view(*x.shape[:-1], self.outputs).to(x.dtype)

    @property
    def takes_many(self) -> bool:
        """Whether the kernel has a way of its own for many rows."""
        return self.kind in FOUR_BITS and self.outputs % PAIR == 0 and has_amx()

    def multiply_many(self, x: Tensor) -> Tensor:
        """The same for many rows, on AMX: rows and weight are rounded to bf16, and so are sums."""
        rows = x.reshape(-1, self.inputs).bfloat16().contiguous()
        out = torch.empty(len(rows), self.outputs, dtype=torch.bfloat16)
        failed = loaded().janus_multiply_many(
            self.pointer, rows.data_ptr(), len(rows), out.data_ptr(), torch.get_num_threads()
        )
        if failed:
            raise MemoryError("the rows of a product")
        return out.view(*x.shape[:-1], self.outputs).to(x.dtype)


def is_long(x: Tensor) -> bool:
    """Whether rows (..., T, K) are such as are multiplied in bf16 where AMX does so.

    How many sequences there are makes no difference, so that one comes out as it does alone.
    """
    return x.dim() > 2 and x.shape[-2] >= LONG


def has_amx() -> bool:
    """Whether the kernel is one that runs on AMX."""
    return hasattr(loaded(), "janus_multiply_many")


def runs_on(device: torch.device) -> bool:
    """Whether the kernel is there, and for this device."""
    return device.type == "cpu" and kernel() is not None


def fits(kind: str, weight: Tensor, outputs: int, inputs: int) -> bool:
    """Whether the kernel takes a weight of this size, where it lies."""
    if outputs % LANES or inputs % GROUPS[kind] or (kind == "int8" and inputs > MOST_INPUTS):
        return False
    return runs_on(weight.device)


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight fp32 (N, K) to codes uint8 (N, K) and the largest numbers of groups, fp32 (N, G)."""
    outputs, inputs = weight.shape
    weight = weight.contiguous()
    codes = torch.empty(outputs, inputs, dtype=torch.uint8)
    absmax = torch.empty(outputs, inputs // GROUPS["nf4"])
    made = (codes.data_ptr(), absmax.data_ptr(), torch.get_num_threads())
    loaded().janus_quantize_nf4(weight.data_ptr(), absmax.numel(), *made)
    return codes, absmax


def nf4_matrix(tiles: Tensor, absmax: Tensor) -> Matrix:
    """Of codes uint8 (N, K / 2) in tiles and the largest numbers of groups, fp32 (N, G)."""
    scales = absmax.unflatten(0, (-1, LANES)).mT.half().contiguous()
    return Matrix("nf4", len(tiles), 2 * tiles.shape[1], tiles, scales)


def int4_matrix(tiles: Tensor, scales: Tensor) -> Matrix:
    """Of codes uint8 (N, K / 2) in tiles, and scales and zeros bf16 (N / 16, G, 16, 2)."""
    return Matrix("int4", len(tiles), 2 * tiles.shape[1], tiles, scales)


def int8_matrix(codes: Tensor, scales: Tensor) -> Matrix | None:
    """Of codes int8 (N, K) and scales bf16 (N,)."""
    outputs, inputs = codes.shape
    if not fits("int8", codes, outputs, inputs):
        return None
    return Matrix("int8", outputs, inputs, codes, scales)


def bf16_matrix(weight: Tensor) -> Matrix | None:
    """Of a plain weight bf16 (N, K)."""
    outputs, inputs = weight.shape
    if weight.dtype != torch.bfloat16 or not fits("bf16", weight, outputs, inputs):
        return None
    return Matrix("bf16", outputs, inputs, weight.detach(), weight.detach())


def loaded() -> ctypes.CDLL:
    library = kernel()
    assert library is not None, "a matrix was made without it"
    return library
