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
        rows = x.reshape(-1, self.inputs).float().contiguous()
        out = torch.empty(len(rows), self.outputs)
        failed = loaded().janus_multiply(
            self.pointer, rows.data_ptr(), len(rows), out.data_ptr(), torch.get_num_threads()
        )
        if failed:
            raise MemoryError("the rows of a product")
        return out.view(*x.shape[:-1], self.outputs).to(x.dtype)


def fits(kind: str, weight: Tensor, outputs: int, inputs: int) -> bool:
    """Whether the kernel is there and takes a weight of this size, where it lies."""
    if weight.device.type != "cpu" or outputs % LANES or inputs % GROUPS[kind]:
        return False
    return (kind != "int8" or inputs <= MOST_INPUTS) and kernel() is not None


def nf4_matrix(packed: Tensor, absmax: Tensor) -> Matrix | None:
    """Of bitsandbytes' codes uint8 (N, K / 2) and the largest numbers of groups, fp32 (N, G)."""
    outputs, inputs = len(packed), 2 * packed.shape[1]
    if not fits("nf4", packed, outputs, inputs):
        return None
    tiles = torch.empty_like(packed)
    sizes, threads = (outputs, inputs), torch.get_num_threads()
    loaded().janus_tile_nf4(packed.data_ptr(), *sizes, tiles.data_ptr(), threads)
    scales = absmax.unflatten(0, (-1, LANES)).mT.half().contiguous()
    return Matrix("nf4", outputs, inputs, tiles, scales)


def int4_matrix(packed: Tensor, scales: Tensor, block: int) -> Matrix | None:
    """Of codes (N, K / 2) as torch packs them with AVX-512 or AVX2, in blocks of 64 or 32 outputs
    that are not paired, and scales and zeros bf16 (G, N, 2)."""
    outputs, inputs = len(packed), 2 * packed.shape[1]
    if not fits("int4", packed, outputs, inputs):
        return None
    packed, scales, groups = packed.contiguous(), scales.contiguous(), len(scales)
    tiles, tiled = torch.empty_like(packed), scales.new_empty(outputs // LANES, groups, LANES, 2)
    sizes, threads = (outputs, inputs, block), torch.get_num_threads()
    pointers = (packed.data_ptr(), scales.data_ptr())
    loaded().janus_tile_int4(*pointers, *sizes, tiles.data_ptr(), tiled.data_ptr(), threads)
    return Matrix("int4", outputs, inputs, tiles, tiled)


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
