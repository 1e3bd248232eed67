"""What a task needs of an engine, whoever owns it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from ..schema import Wish
    from .batch import Prompt, Said
    from .decode import Drawing, Sampling
    from .pixels import Preprocessing
    from .prompt import PromptWriter


class Engine(Protocol):
    """Our own networks, transformers', or one's share of an engine that many use."""

    name: str
    precision: str
    image_tokens: int
    """Positions that a drawn picture takes after its prompt."""
    writer: PromptWriter
    preprocessing: Preprocessing

    def write(self, prompts: Iterable[Prompt]) -> Iterator[Said]:
        """Answer prompts: numbers of prompts with tokens, None where an answer ends."""

    def sampling(self, wish: Wish) -> Sampling:
        """How the model draws a wish, with its own defaults.

        Raises:
            UsageError: the wish names a setting that this kind of model does not have.
        """

    def steps(self, sampling: Sampling) -> int:
        """In how many steps a picture is drawn."""

    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """Draw pictures: after each step what it has made of them, (pictures, ...).

        The code of one grid cell each; or, of a flow, the latents as they are by then.
        """

    def paint(self, drawn: Tensor) -> Tensor:
        """What all steps have made, (pictures, steps, ...), to uint8 (pictures, size, size, 3)."""

    def most_pictures(self) -> int:
        """How many pictures may be drawn at once."""
