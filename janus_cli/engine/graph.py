"""Steps that are captured once and replayed, so that a GPU does not wait for Python."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM = 3  # calls before a capture, in which libraries make what they need
PAYS_BACK = 64  # calls that a capture must be good for, where nothing else is said


class Repeated:
    """A function of tensors that is called many times, always with the same shapes.

    On CUDA its kernels are captured as a graph and replayed from then on; elsewhere, and where few
    calls are to come, it is just called. What it changes in place (a cache) must lie on the device
    and depend on nothing that the host decides.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        device: torch.device,
        calls: int,
        *,
        pays_back: int = PAYS_BACK,
    ) -> None:
        self.function = function
        self.captures = device.type == "cuda" and calls >= WARM + pays_back
        self.called = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.called += 1
        if not self.captures or self.called <= WARM:
            return self.function(*inputs)
        if self.graph is None:
            self.capture(inputs)
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given)
        self.graph.replay()
        return self.output.clone()

    def capture(self, inputs: tuple[Tensor, ...]) -> None:
        """Record the function's kernels; nothing of it is computed yet."""
        self.inputs = [given.clone() for given in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = self.function(*self.inputs)
