"""Weights in 4 bits at the quantiles of a normal distribution (QLoRA, arXiv 2305.14314).

Codes and scales are those of bitsandbytes, without its second quantization of the scales. So is the
product, where there is no kernel of our own.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from .bits import library
from .kernel.matrix import nf4_matrix, quantize_nf4
from .packing import NEIGHBORS, TILES, Packed, Packing

GROUP = 64  # numbers that share a scale


class NF4Linear(Packed):
    """packed uint8 (N, K / 2) and absmax fp32 (N, K / 64)."""

    group = GROUP
    block = 32  # of its product on processors with AVX-512
    outputs: ClassVar = {"packed": 0, "absmax": 0}
    absmax: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("absmax", torch.empty(outputs, inputs // GROUP, dtype=torch.float32))

    @staticmethod
    def other_packing(device: torch.device) -> Packing:
        return NEIGHBORS

    @classmethod
    def quantize_rows(cls, weight: Tensor) -> dict[str, Tensor]:
        """The kernel's codes are those of bitsandbytes, which rounds one number at a time."""
        if cls.packing(weight.device) == TILES:
            codes, absmax = quantize_nf4(weight.float())
            return {"packed": TILES.pack(codes), "absmax": absmax}
        outputs, inputs = weight.shape
        packed, state = library().functional.quantize_4bit(
            weight.float().contiguous(), blocksize=GROUP, quant_type="nf4"
        )
        return {
            "packed": packed.view(outputs, inputs // 2),
            "absmax": state.absmax.view(outputs, inputs // GROUP),
        }

    def settle(self) -> None:
        """Leave the buffers to the kernel, or hand them over to bitsandbytes' own layer, which
        arranges them at its first product on some processors; nothing else may hold them then."""
        if self.packing(self.packed.device) == TILES:
            self.matrix = nf4_matrix(self.packed, self.absmax)
            self.absmax = self.matrix.scales
            return
        functional, nn = library().functional, library().nn
        state = functional.QuantState(
            absmax=self.absmax.flatten(),
            shape=torch.Size((self.out_features, self.in_features)),
            code=functional.get_4bit_type("nf4", device=self.packed.device),
            blocksize=GROUP,
            quant_type="nf4",
            dtype=torch.float32,
        )
        layer = nn.Linear4bit(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight = nn.Params4bit(
            self.packed.view(-1, 1),
            requires_grad=False,
            quant_state=state,
            blocksize=GROUP,
            quant_type="nf4",
            bnb_quantized=True,
        )
        self.layer = layer.eval()
        del self.packed, self.absmax

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.matrix is None else self.matrix.multiply(x)
