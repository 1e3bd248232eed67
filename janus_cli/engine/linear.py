"""The plain layers that networks are made of, and the one seam where their precision is decided.

Where there is no kernel, a layer that holds its weight in fewer bits multiplies a few rows by it as
it lies, since then reading the weight is all the work, and many rows (a prompt with a picture in
it) by a wider copy of a part of it at a time, since then multiplying is. Letters: M rows, N
outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernel.matrix import Matrix, bf16_matrix

FEW_ROWS = 32  # what is multiplied as it lies; more than the rows of any step
FEW_BF16_ROWS = 16  # the same for bf16, of which torch has a product of its own
PART = 1024  # rows of the weight that are widened at once; glibc keeps what that takes for the next


def blank_embedding(entries: int, width: int) -> nn.Embedding:
    """An embedding whose weights are yet to be filled.

    nn.Embedding draws normal numbers, which on the meta device, where models are built before they
    are loaded, makes torch import its compiler: more than a second at every start.
    """
    return nn.Embedding.from_pretrained(torch.empty(entries, width), freeze=False)


class HalfLinear(nn.Linear):
    """A linear layer held in 16 bits inside a network that computes in fp32.

    For processors that compute faster in fp32: a few rows are still faster through the 16-bit
    weight, which is half as much to read, in the kernel where there is one; many rows are
    multiplied in fp32.
    """

    matrix: Matrix | None = None

    def __init__(self, inputs: int, outputs: int, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__(inputs, outputs, bias=False, dtype=dtype)
        if bias:
            self.bias = nn.Parameter(torch.empty(outputs, dtype=torch.float32))

    def settle(self) -> None:
        """See what this machine can do, once the weight is filled."""
        self.matrix = bf16_matrix(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        few = x.shape[:-1].numel() <= FEW_ROWS
        if few and self.matrix is not None:
            product = self.matrix.multiply(x)
        elif few:
            product = F.linear(x.to(self.weight.dtype), self.weight).to(x.dtype)
        else:
            product = multiply_in_parts(x, len(self.weight), self.widened(x.dtype))
        return product if self.bias is None else product + self.bias

    def widened(self, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
        return lambda first, last: self.weight[first:last].to(dtype)


class BF16Linear(nn.Linear):
    """A plain layer in bf16; on a CPU a few rows go through the kernel, where there is one."""

    matrix: Matrix | None = None

    def settle(self) -> None:
        """See what this machine can do, once the weight is filled."""
        self.matrix = bf16_matrix(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.matrix is None or x.shape[:-1].numel() > FEW_BF16_ROWS:
            return super().forward(x)
        product = self.matrix.multiply(x)
        return product if self.bias is None else product + self.bias


class Quantized(nn.Module):
    """A projection (..., K) to (..., N), without bias, whose weight is held in fewer bits.

    Its buffers are what a quantized checkpoint holds. A kind of quantization says how a weight
    becomes those buffers; its `forward` multiplies rows by them.
    """

    group: int
    """K must be a multiple of this."""
    block: int
    """N must be a multiple of this."""
    outputs: ClassVar[dict[str, int]]
    """Its buffers, and the dimension of each that goes with N."""
    matrix: Matrix | None = None
    """The same for the kernel, where there is one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs

    @classmethod
    def takes(cls, linear: nn.Linear) -> bool:
        """Whether a layer has the sizes that this kind can hold; others stay as they are."""
        fits = linear.in_features % cls.group == 0 and linear.out_features % cls.block == 0
        return fits and linear.bias is None

    @classmethod
    def quantize(cls, weight: Tensor) -> dict[str, Tensor]:
        """A weight (N, K) of floating-point numbers to the buffers of this layer, by name.

        In parts, which take little memory beside it and less time than all at once.
        """
        parts = [cls.quantize_rows(rows) for rows in weight.split(PART)]
        return {
            name: torch.cat([part[name] for part in parts], dim=dimension)
            for name, dimension in cls.outputs.items()
        }

    @staticmethod
    def quantize_rows(weight: Tensor) -> dict[str, Tensor]:
        """The same for some rows of a weight."""
        raise NotImplementedError

    def settle(self) -> None:
        """Arrange the buffers, once they are filled, as this machine's product wants them."""


def multiply_in_parts(x: Tensor, outputs: int, widened: Callable[[int, int], Tensor]) -> Tensor:
    """x (..., K) times a weight (N, K) of which `widened(first, last)` gives the rows asked for."""
    step = PART if x.device.type == "cpu" else outputs
    parts = [
        F.linear(x, widened(first, min(first + step, outputs))) for first in range(0, outputs, step)
    ]
    return torch.cat(parts, dim=-1)
