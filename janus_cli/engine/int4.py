"""Weights in 4 bits, a scale and a zero for every 32 of them: torch's packed product.

On a CPU the packing depends on the processor, so a checkpoint says which one it holds, and it is
packed anew where another processor reads it. Letters: N outputs, K inputs, G groups of K.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .kernel.matrix import int4_matrix
from .linear import FEW_ROWS, Quantized, multiply_in_parts

GROUP = 32  # numbers that share a scale and a zero
LARGEST = 15
MIDDLE = 8  # torch counts from -8 to 7
CUDA_TILES = 8  # of 16 inputs, in one word of the packing on CUDA


@dataclass(frozen=True)
class Packing:
    """How the rows of a block share bytes: byte j holds row low[j] and row high[j] of the block.

    As torch's int4mm_kernel.cpp packs for the instructions that it finds.
    """

    name: str
    rows: int
    paired: bool
    """Whether a byte holds neighbours, instead of a row and the one half a block later."""

    def pack(self, codes: Tensor) -> Tensor:
        """Codes uint8 (N, K) in 0..15 to bytes (N / rows, K, rows / 2)."""
        halves = codes.view(-1, *self.split, codes.shape[1])
        low, high = halves.unbind(2 if self.paired else 1)  # each (blocks, rows / 2, K)
        return (low | high << 4).transpose(1, 2).contiguous()

    def unpack(self, packed: Tensor) -> Tensor:
        """The inverse of `pack`."""
        halves = torch.stack((packed & 15, packed >> 4), dim=3 if self.paired else 2)
        rows = halves.flatten(2)  # (blocks, K, rows), in the order of the rows
        return rows.transpose(1, 2).reshape(-1, packed.shape[1])

    @property
    def split(self) -> tuple[int, int]:
        half = self.rows // 2
        return (half, 2) if self.paired else (2, half)


PACKINGS = {
    "avx512": Packing("avx512", 64, paired=False),
    "avx2": Packing("avx2", 32, paired=False),
    "plain": Packing("plain", 32, paired=True),
    "narrow": Packing("narrow", 16, paired=True),  # vectors of 128 bits, as on ARM
}


@functools.cache
def machine_packing() -> Packing:
    """The packing of torch's product on this processor, found by packing a few numbers."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(16, (64, 32), generator=generator, dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    for packing in PACKINGS.values():
        if torch.equal(packing.pack(codes.to(torch.uint8)).view(-1), packed.view(-1)):
            return packing
    raise AssertionError("torch packs int4 in a way that this version of janus does not know")


class Int4Linear(Quantized):
    """packed uint8 (N, K / 2) and scales bf16 (G, N, 2), a scale and a zero for each group."""

    group = GROUP
    block = 64  # the largest block of any packing
    outputs: ClassVar = {"packed": 0, "scales": 1}
    packed: Tensor
    scales: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("packed", torch.empty(outputs, inputs // 2, dtype=torch.uint8))
        self.register_buffer(
            "scales", torch.empty(inputs // GROUP, outputs, 2, dtype=torch.bfloat16)
        )

    @staticmethod
    def quantize_rows(weight: Tensor) -> dict[str, Tensor]:
        """Spread the 16 numbers of each group from its least to its largest weight."""
        outputs, inputs = weight.shape
        groups = weight.float().view(outputs, -1, GROUP)  # (N, G, 32)
        least, most = groups.aminmax(dim=-1)
        scales = ((most - least) / LARGEST).clamp_(min=1e-8).bfloat16()
        zeros = (least + MIDDLE * scales.float()).bfloat16()
        codes = (groups - zeros.float()[..., None]).div_(scales.float()[..., None])
        codes = codes.round_().add_(MIDDLE).clamp_(0, LARGEST).to(torch.uint8)
        packed = machine_packing().pack(codes.view(outputs, inputs))
        pairs = torch.stack((scales, zeros), dim=-1).transpose(0, 1).contiguous()
        return {"packed": packed.view(outputs, inputs // 2), "scales": pairs}

    def settle(self) -> None:
        if self.packed.is_cuda:
            codes = machine_packing().unpack(self.blocks)
            halves = codes[:, ::2] << 4 | codes[:, 1::2]
            self.packed = torch._convert_weight_to_int4pack(halves.contiguous(), CUDA_TILES)
        elif not machine_packing().paired:
            self.matrix = int4_matrix(self.packed, self.scales, machine_packing().rows)
            if self.matrix is not None:
                self.packed, self.scales = self.matrix.codes, self.matrix.scales

    def repack(self, packing: Packing) -> None:
        """Turn the packing of another processor into this one's."""
        if packing == machine_packing():
            return
        blocks = self.packed.view(-1, self.in_features, packing.rows // 2)
        self.packed = machine_packing().pack(packing.unpack(blocks)).view_as(self.packed)

    @property
    def blocks(self) -> Tensor:
        """The bytes as blocks (N / rows, K, rows / 2)."""
        return self.packed.view(-1, self.in_features, machine_packing().rows // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.matrix is not None:
            return self.matrix.multiply(x)
        if x.shape[:-1].numel() > FEW_ROWS and not x.is_cuda:
            return multiply_in_parts(x, self.out_features, self.widened(x.dtype))
        rows = x.flatten(0, -2).bfloat16()  # in fp32 the packed product is ten times slower
        if x.is_cuda:
            product = torch._weight_int4pack_mm(rows, self.packed, GROUP, self.scales)
        else:
            product = torch.ops.aten._weight_int4pack_mm_for_cpu(
                rows, self.packed, GROUP, self.scales
            )
        return product.unflatten(0, x.shape[:-1]).to(x.dtype)

    def widened(self, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
        """Rows of the weight, as (code - 8) * scale + zero."""
        packing = machine_packing()

        def rows(first: int, last: int) -> Tensor:
            codes = packing.unpack(self.blocks[first // packing.rows : last // packing.rows])
            scales, zeros = self.scales[:, first:last].to(dtype).permute(2, 1, 0)[..., None]
            groups = codes.to(dtype).sub_(MIDDLE).view(last - first, -1, GROUP)
            return groups.mul_(scales).add_(zeros).flatten(1)

        return rows
