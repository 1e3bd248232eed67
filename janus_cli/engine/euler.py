"""JanusFlow's loop: noise to the latent of a picture in Euler steps (arXiv 2411.07975).

It speaks token ids and latents; what a velocity is, flow.py knows, and how a latent becomes pixels,
vae.py. Letters: B rows, T positions, P those of the words before them, C channels, S the side of a
latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..errors import UsageError
from ..schema import FLOW_GUIDANCE, FLOW_STEPS, Wish
from .decode import Drawing, Native, Sampling
from .flow import JanusFlow, Prefix
from .graph import Repeated
from .pixels import Preprocessing
from .prompt import PromptWriter
from .sample import guide, normal_numbers
from .vae import VAE
from .vq import to_bytes

END_OF_TIME = 1000  # what the networks call the time at which noise has become data
PAYS_BACK = 8  # steps that a captured graph must be good for; each has hundreds of kernels


class NativeFlow(Native):
    """The engine of JanusFlow, which draws by a flow."""

    model: JanusFlow

    def __init__(
        self,
        model: JanusFlow,
        writer: PromptWriter,
        preprocessing: Preprocessing,
        vae: VAE,
        *,
        name: str,
        precision: str,
    ) -> None:
        super().__init__(model, writer, preprocessing, name=name, precision=precision)
        self.vae = vae

    def sampling(self, wish: Wish) -> Sampling:
        unheeded = {
            "--temperature": wish.temperature != 1,
            "--top-k": wish.top_k != 0,
            "--top-p": wish.top_p != 1,
        }
        for flag, given in unheeded.items():
            if given:
                raise UsageError(
                    f"{flag}: {self.name} draws by a flow, which picks no codes and has none; "
                    "leave it out"
                )
        guidance = FLOW_GUIDANCE if wish.guidance is None else wish.guidance
        return Sampling(guidance, steps=wish.steps or FLOW_STEPS)

    def steps(self, sampling: Sampling) -> int:
        return sampling.steps or FLOW_STEPS

    def most_pictures(self) -> int:
        """One: its positions are enough to keep a processor busy, and it is there the sooner."""
        return 1

    @torch.inference_mode()
    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """Draw pictures: their latents (pictures, C, S, S) in fp32 after each step.

        Each is computed by itself, so that it does not depend on those beside it.
        """
        self.vae.load()  # what is wrong with it is to be known before the work
        device, steps = self.model.device, self.steps(sampling)
        prefixes = self.prefixes(drawings, sampling)
        latents = normal_numbers([drawing.seed for drawing in drawings], self.latent_shape)
        latents = latents.to(device)

        def advance(latents: Tensor, time: Tensor) -> Tensor:
            moved = [
                latent + self.velocity(latent[None], time, prefix, sampling)[0] / steps
                for latent, prefix in zip(latents, prefixes, strict=True)
            ]
            return torch.stack(moved)

        repeated = Repeated(advance, device, steps, pays_back=PAYS_BACK)
        times = torch.arange(steps, device=device, dtype=torch.float32) * (END_OF_TIME / steps)
        for time in times.split(1):
            latents = repeated(latents, time)
            yield latents

    def velocity(self, latent: Tensor, time: Tensor, prefix: Prefix, sampling: Sampling) -> Tensor:
        """The guided velocity (1, C, S, S), fp32, of a latent like it at a time (1,)."""
        velocities = self.model.velocity(latent, time, prefix).float()
        if not sampling.guided:
            return velocities
        conditional, unconditional = velocities.split(1)
        return guide(conditional, unconditional, sampling.guidance)

    def paint(self, drawn: Tensor) -> Tensor:
        """Latents (pictures, steps, C, S, S) to uint8 pictures (pictures, size, size, 3).

        Only the last step shows; one at a time, as codes are painted.
        """
        with torch.inference_mode():
            pictures = [to_bytes(self.vae.decode(path[-1:])) for path in drawn]
            return torch.cat(pictures).cpu()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.model.config
        return config.flow.latent_channels, config.latent_side, config.latent_side

    def prefixes(self, drawings: Sequence[Drawing], sampling: Sampling) -> list[Prefix]:
        """What each picture begins with; pictures of one prompt share it."""
        made: dict[tuple[tuple[int, ...], ...], Prefix] = {}
        prefixes = []
        for drawing in drawings:
            both = tuple(drawing.ids), tuple(drawing.unconditional)
            rows = both if sampling.guided else both[:1]
            if rows not in made:
                made[rows] = self.prefix(rows)
            prefixes.append(made[rows])
        return prefixes

    def prefix(self, rows: Sequence[Sequence[int]]) -> Prefix:
        """The words of each row but the last, in whose place the time stands.

        Nobody looks at a pad, though it counts as a position: so the authors' mask has it.
        """
        words = [[word for word in ids[:-1] if word != self.writer.pad] for ids in rows]
        longest, following = max(map(len, words)), self.image_tokens + 1
        cache = self.new_cache(rows=len(rows), capacity=longest)
        self.prefill(words, cache)
        device = self.model.device
        lengths = torch.tensor([len(row) for row in words], device=device)
        starts = torch.tensor([len(ids) - 1 for ids in rows], device=device)
        before = torch.arange(longest, device=device) < lengths[:, None]  # (B, P)
        among = torch.ones(following, following, dtype=torch.bool, device=device).tril()  # (T, T)
        seen = torch.cat(
            (
                before[:, None].expand(-1, following, -1),
                among.expand(len(rows), -1, -1),
            ),
            dim=-1,
        )
        held = zip(cache.keys, cache.values, strict=True)
        layers = [(k.mT[:, :, :longest].contiguous(), v[:, :, :longest]) for k, v in held]
        positions = starts[:, None] + torch.arange(following, device=device)
        return Prefix(layers, positions, seen[:, None])
