"""How 4-bit codes lie two a byte: as a product reads them, which differs between machines.

A checkpoint says how its own lie, and is packed anew where another order is wanted. Letters: N
outputs, K inputs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .kernel.matrix import LANES, runs_on
from .linear import Quantized


class Packing(Protocol):
    """An order of codes."""

    @property
    def name(self) -> str:
        """What a checkpoint calls it."""

    def pack(self, codes: Tensor) -> Tensor:
        """Codes uint8 (N, K) in 0..15 to bytes (N, K / 2)."""

    def unpack(self, packed: Tensor) -> Tensor:
        """The inverse of `pack`."""


class Tiles:
    """Our kernel's: tiles of 16 outputs; of 8 inputs of each, byte i holds i and, high, i + 4.

    See kernel/kernel.h.
    """

    name = "tiles"

    def pack(self, codes: Tensor) -> Tensor:
        outputs, inputs = codes.shape
        eights = codes.view(outputs // LANES, LANES, inputs // 8, 2, 4).transpose(1, 2)
        low, high = eights.unbind(3)
        return (low | high << 4).reshape(outputs, inputs // 2)

    def unpack(self, packed: Tensor) -> Tensor:
        outputs, half = packed.shape
        tiles = packed.reshape(outputs // LANES, half // 4, LANES, 4)
        eights = torch.stack((tiles & 15, tiles >> 4), dim=3)
        return eights.transpose(1, 2).reshape(outputs, 2 * half)


class Neighbors:
    """Two inputs of an output, the first one high: bitsandbytes', and what torch has for CUDA."""

    name = "neighbors"

    def pack(self, codes: Tensor) -> Tensor:
        return codes[:, ::2] << 4 | codes[:, 1::2]

    def unpack(self, packed: Tensor) -> Tensor:
        return torch.stack((packed >> 4, packed & 15), dim=2).flatten(1)


@dataclass(frozen=True)
class Blocks:
    """torch's: blocks of outputs, each input by input, a byte holding two of the outputs.

    As torch's int4mm_kernel.cpp packs for the instructions that it finds.
    """

    name: str
    rows: int
    paired: bool
    """Whether a byte holds neighbors, instead of a row and the one half a block later."""

    def pack(self, codes: Tensor) -> Tensor:
        outputs, inputs = codes.shape
        half = self.rows // 2
        halves = codes.view(-1, *((half, 2) if self.paired else (2, half)), inputs)
        low, high = halves.unbind(2 if self.paired else 1)  # each (blocks, rows / 2, K)
        return (low | high << 4).transpose(1, 2).reshape(outputs, inputs // 2)

    def unpack(self, packed: Tensor) -> Tensor:
        outputs, inputs = len(packed), 2 * packed.shape[1]
        blocks = packed.reshape(-1, inputs, self.rows // 2)
        halves = torch.stack((blocks & 15, blocks >> 4), dim=3 if self.paired else 2)
        return halves.flatten(2).transpose(1, 2).reshape(outputs, inputs)


TILES, NEIGHBORS = Tiles(), Neighbors()
BLOCKS = (
    Blocks("avx512", 64, paired=False),
    Blocks("avx2", 32, paired=False),
    Blocks("plain", 32, paired=True),
    Blocks("narrow", 16, paired=True),  # vectors of 128 bits, as on ARM
)
PACKINGS: dict[str, Packing] = {packing.name: packing for packing in (TILES, NEIGHBORS, *BLOCKS)}


@functools.cache
def torch_packing() -> Blocks:
    """That of torch's product on this processor, found by packing a few numbers."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(16, (64, 32), generator=generator, dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    for packing in BLOCKS:
        if torch.equal(packing.pack(codes.to(torch.uint8)).view(-1), packed.view(-1)):
            return packing
    raise AssertionError("torch packs int4 in a way that this version of janus does not know")


class Packed(Quantized):
    """packed uint8 (N, K / 2), and scales of groups of inputs."""

    packed: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("packed", torch.empty(outputs, inputs // 2, dtype=torch.uint8))

    @classmethod
    def packing(cls, device: torch.device) -> Packing:
        """The order that this layer's product on a device reads: the kernel's, where it runs."""
        return TILES if runs_on(device) else cls.other_packing(device)

    @staticmethod
    def other_packing(device: torch.device) -> Packing:
        """The order without the kernel."""
        raise NotImplementedError

    def repack(self, found: Packing) -> None:
        """Turn the order that a checkpoint has into that of the device it was loaded to."""
        wanted = self.packing(self.packed.device)
        if found != wanted:
            self.packed = wanted.pack(found.unpack(self.packed))
