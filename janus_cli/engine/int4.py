"""Weights in 4 bits, a scale and a zero for every 32 of them: torch's packed product.

Letters: N outputs, K inputs, G groups of K.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .kernel.matrix import LANES, int4_matrix
from .linear import FEW_ROWS, multiply_in_parts
from .packing import NEIGHBORS, TILES, Packed, Packing, torch_packing

GROUP = 32  # numbers that share a scale and a zero
LARGEST = 15
MIDDLE = 8  # torch counts from -8 to 7
CUDA_TILES = 8  # of 16 inputs, in one word of the packing on CUDA


class Int4Linear(Packed):
    """packed uint8 (N, K / 2) and scales bf16 (N / 16, G, 16, 2), a scale and a zero a group."""

    group = GROUP
    block = 64  # the largest block of any packing
    outputs: ClassVar = {"packed": 0, "scales": 0}
    scales: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        blank = torch.empty(outputs // LANES, inputs // GROUP, LANES, 2, dtype=torch.bfloat16)
        self.register_buffer("scales", blank)

    @staticmethod
    def other_packing(device: torch.device) -> Packing:
        return NEIGHBORS if device.type == "cuda" else torch_packing()

    @classmethod
    def quantize_rows(cls, weight: Tensor) -> dict[str, Tensor]:
        """Spread the 16 numbers of each group from its least to its largest weight."""
        outputs, inputs = weight.shape
        groups = weight.float().view(outputs, -1, GROUP)  # (N, G, 32)
        least, most = groups.aminmax(dim=-1)
        scales = ((most - least) / LARGEST).clamp_(min=1e-8).bfloat16()
        zeros = (least + MIDDLE * scales.float()).bfloat16()
        codes = (groups - zeros.float()[..., None]).div_(scales.float()[..., None])
        codes = codes.round_().add_(MIDDLE).clamp_(0, LARGEST).to(torch.uint8)
        pairs = torch.stack((scales, zeros), dim=-1).unflatten(0, (-1, LANES))
        return {
            "packed": cls.packing(weight.device).pack(codes.view(outputs, inputs)),
            "scales": pairs.transpose(1, 2).contiguous(),
        }

    def settle(self) -> None:
        """Leave the buffers to the kernel, or arrange them as torch's product wants them, whose
        scales are (G, N, 2)."""
        if self.packing(self.packed.device) == TILES:
            self.matrix = int4_matrix(self.packed, self.scales)
            return
        self.scales = self.scales.transpose(0, 1).flatten(1, 2).contiguous()
        if self.packed.is_cuda:
            self.packed = torch._convert_weight_to_int4pack(self.packed, CUDA_TILES)

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

        def rows(first: int, last: int) -> Tensor:
            codes = torch_packing().unpack(self.packed[first:last])
            scales, zeros = self.scales[:, first:last].to(dtype).permute(2, 1, 0)[..., None]
            groups = codes.to(dtype).sub_(MIDDLE).view(last - first, -1, GROUP)
            return groups.mul_(scales).add_(zeros).flatten(1)

        return rows
