"""The three stages of Janus-Pro as a table: what each trains, on what, and how fast.

Numbers are those of Table 2 of Janus-Pro (arXiv 2501.17811), what is trained those of section 3.2
of Janus (arXiv 2410.13848). It knows the names of the networks' parts, and nothing else of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.model import Janus
from .mixture import Mixture

ADAPTORS = ("aligner", "generation_embed", "generation_aligner", "generation_head")
"""Both adaptors and the image head. The embeddings of the codes are a table of their own in every
released checkpoint, apart from the codebook of the VQ tokenizer; they are the first layer of the
generation adaptor, so they are trained whenever that is."""
DECODER = ("language", "text_head")


@dataclass(frozen=True)
class Stage:
    """What one stage trains and how; the rate is constant after its warm-up."""

    name: str
    trained: tuple[str, ...]
    """Parts of Janus; the others are frozen. The VQ tokenizer is never trained here."""
    rate: float
    warm_up: int
    """Steps until the rate is reached, in the papers' runs of 20,000 steps and more."""
    mixture: Mixture
    masked: bool
    """Whether system prompt and questions cost nothing, so that only answers are learned."""
    weight_decay: float = 0.0

    def mark(self, model: Janus) -> None:
        """Say for every parameter of a model whether this stage trains it."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] in self.trained)


STAGES = {
    stage.name: stage
    for stage in (
        # The papers take a language model that is ready-made; a small one learns to talk first.
        Stage("words", DECODER, 1e-3, 100, Mixture(0, 1, 0), masked=False),
        Stage("1", ADAPTORS, 1e-3, 600, Mixture(1, 0, 3), masked=False),
        Stage("2", (*ADAPTORS, *DECODER), 1e-4, 5000, Mixture(2, 3, 5), masked=False),
        Stage("3", (*ADAPTORS, *DECODER, "vision"), 4e-5, 0, Mixture(5, 1, 4), masked=True),
    )
}
