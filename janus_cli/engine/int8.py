"""Weights in 8 bits, a scale for each output: torch's packed product.

The numbers are those of bitsandbytes' LLM.int8() (arXiv 2208.07339), symmetric about zero; its
product is not, on a GPU either: it looks for outliers in all rows together, so that a picture would
depend on those beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .kernel.matrix import has_amx, int8_matrix, is_long
from .linear import FEW_ROWS, Quantized, multiply_in_parts

LARGEST = 127


class Int8Linear(Quantized):
    """codes int8 (N, K) and scales bf16 (N,)."""

    group = 16
    block = 1
    outputs: ClassVar = {"codes": 0, "scales": 0}
    codes: Tensor
    scales: Tensor
    packed_product: bool

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("codes", torch.empty(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scales", torch.empty(outputs, dtype=torch.bfloat16))

    @staticmethod
    def quantize_rows(weight: Tensor) -> dict[str, Tensor]:
        weight = weight.float()
        scales = (weight.abs().amax(1) / LARGEST).clamp(min=1e-30).bfloat16()
        codes = (weight / scales.float()[:, None]).round_().clamp_(-LARGEST, LARGEST)
        return {"codes": codes.to(torch.int8), "scales": scales}

    def settle(self) -> None:
        self.matrix = int8_matrix(self.codes, self.scales)
        self.packed_product = self.codes.device.type == "cpu" or has_product(self.codes.device)

    def forward(self, x: Tensor) -> Tensor:
        if self.matrix is not None:
            return self.multiply_long(x) if is_long(x) and has_amx() else self.matrix.multiply(x)
        if self.packed_product and x.shape[:-1].numel() <= FEW_ROWS:
            rows = x.flatten(0, -2).bfloat16()  # in fp32 a CPU takes ten times as long
            product = torch._weight_int8pack_mm(rows, self.codes, self.scales)
            return product.unflatten(0, x.shape[:-1]).to(x.dtype)
        return multiply_in_parts(x, self.out_features, self.widened(x.dtype))

    def multiply_long(self, x: Tensor) -> Tensor:
        """In bf16, of which torch's product runs on AMX: in less than half the kernel's time."""
        rows = x.bfloat16()
        return multiply_in_parts(rows, self.out_features, self.widened(rows.dtype)).to(x.dtype)

    def widened(self, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
        scales = self.scales.to(dtype)[:, None]
        return lambda first, last: self.codes[first:last].to(dtype).mul_(scales[first:last])


@functools.cache
def has_product(device: torch.device) -> bool:
    """Whether this torch has the packed product on a GPU; it came after that of CPUs."""
    rows = torch.zeros(1, 16, dtype=torch.bfloat16, device=device)
    try:
        torch._weight_int8pack_mm(rows, rows.to(torch.int8), rows[0, :1])
    except (NotImplementedError, RuntimeError):
        return False
    return True
