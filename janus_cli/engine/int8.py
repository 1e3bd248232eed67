"""Weights in 8 bits, a scale for each output: torch's packed product, on CUDA bitsandbytes'.

The numbers are those of LLM.int8() (arXiv 2208.07339), symmetric about zero, so that one file
serves both products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .bits import library
from .linear import FEW_ROWS, Quantized, multiply_in_parts

LARGEST = 127


class Int8Linear(Quantized):
    """codes int8 (N, K) and scales bf16 (N,)."""

    group = 16
    block = 1
    outputs: ClassVar = {"codes": 0, "scales": 0}
    codes: Tensor
    scales: Tensor

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
        if self.codes.is_cuda:
            self.state = cuda_state(self.codes, self.scales)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return library().matmul(x.half(), self.codes, state=self.state).to(x.dtype)
        if x.shape[:-1].numel() <= FEW_ROWS:
            rows = x.flatten(0, -2).bfloat16()  # in fp32 the packed product is ten times slower
            product = torch._weight_int8pack_mm(rows, self.codes, self.scales)
            return product.unflatten(0, x.shape[:-1]).to(x.dtype)
        return multiply_in_parts(x, self.out_features, self.widened(x.dtype))

    def widened(self, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
        scales = self.scales.to(dtype)[:, None]
        return lambda first, last: self.codes[first:last].to(dtype).mul_(scales[first:last])


def cuda_state(codes: Tensor, scales: Tensor) -> object:
    """What bitsandbytes keeps beside a weight; columns with outliers are multiplied in fp16."""
    state = library().MatmulLtState()
    state.CB, state.SCB = codes, scales.float() * LARGEST
    state.has_fp16_weights, state.is_training = False, False
    state.threshold = 6.0  # the outliers of arXiv 2208.07339
    return state
