"""The same requests through transformers' own JanusForConditionalGeneration.

For comparing on one's own weights (`--backend transformers`), for the tests and the benchmarks. It
takes the same ids and pixels as decode.Native; model, cache and loops are transformers' own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from ..schema import CODE_GUIDANCE, Wish
from .batch import Prompt, Said
from .config import JanusConfig
from .decode import Drawing, Sampling
from .pixels import Preprocessing
from .prompt import PromptWriter
from .sample import guide
from .vq import to_bytes


class Reference:
    """The engine on transformers' networks."""

    guidance = CODE_GUIDANCE
    """As NativeCodes.guidance."""

    def __init__(
        self,
        model: Any,
        config: JanusConfig,
        writer: PromptWriter,
        preprocessing: Preprocessing,
        *,
        name: str,
        precision: str,
    ) -> None:
        self.model = model
        self.writer = writer
        self.preprocessing = preprocessing
        self.name = name
        self.precision = precision
        self.notes: tuple[str, ...] = ()
        self.image_tokens = config.image_tokens

    @classmethod
    def load(
        cls,
        path: Path,
        config: JanusConfig,
        writer: PromptWriter,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        dtype: torch.dtype,
        **label: str,
    ) -> Reference:
        """Load a folder in transformers' layout with `from_pretrained`."""
        from transformers import JanusForConditionalGeneration
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            with mock.patch.object(nn, "GroupNorm", grouped(config.vq.groups)):
                model = JanusForConditionalGeneration.from_pretrained(
                    path, dtype=dtype, local_files_only=True
                )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path}: transformers cannot load it ({reason})") from error
        # transformers takes the grid of the codes for that of the understanding tower's patches.
        model.model.vqmodel.quantize.quant_state_dims = [config.grid, config.grid]
        model.model.vision_model.config.num_image_tokens = config.image_tokens
        model.config.image_token_id = writer.placeholder
        return cls(model.to(device).eval(), config, writer, preprocessing, **label)

    def most_pictures(self) -> int:
        """They are drawn one after the other, so memory sets no limit."""
        return 1 << 30

    def write(self, prompts: Iterable[Prompt]) -> Iterator[Said]:
        """As Native.write, but one prompt after the other.

        Sampling draws from torch's global generator, seeded with the prompt's seed.
        """
        for number, prompt in enumerate(prompts):
            options: dict[str, Any] = {"do_sample": False}
            if prompt.temperature > 0:
                options = {"do_sample": True, "temperature": prompt.temperature}
                options |= {"top_k": 0, "top_p": 1.0}
            tokens = torch.tensor([prompt.ids], device=self.model.device)
            inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            if prompt.pixels is not None:
                inputs["pixel_values"] = prompt.pixels.to(self.model.device, self.model.dtype)
            torch.manual_seed(prompt.seed)
            written = self.stream(
                **inputs,
                max_new_tokens=min(prompt.max_tokens, self.writer.context - len(prompt.ids)),
                eos_token_id=self.writer.end_of_sentence,
                pad_token_id=self.writer.end_of_sentence,
                **options,
            )
            for token in written:
                yield number, token
            yield number, None

    def stream(self, **options: Any) -> Iterator[int]:
        """The new tokens of `generate`, which runs on a thread and hands them over as they come."""
        tokens: queue.Queue[int | BaseException | None] = queue.Queue()
        streamer = TokenStreamer(tokens, self.writer.end_of_sentence)

        def work() -> None:
            try:
                self.model.generate(generation_mode="text", streamer=streamer, **options)
                tokens.put(None)
            except BaseException as error:  # handed over, and raised where it is waited for
                tokens.put(error)

        threading.Thread(target=work, daemon=True).start()
        while (token := tokens.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            yield token

    def sampling(self, wish: Wish) -> Sampling:
        """As NativeCodes.sampling."""
        return Sampling.of_codes(wish, self.name, self.guidance)

    def steps(self, sampling: Sampling) -> int:
        """As NativeCodes.steps."""
        return self.image_tokens

    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """As Native.draw, but the codes come all at once when the last is known.

        Each picture runs alone after `torch.manual_seed(its seed)`, since transformers draws for a
        whole batch from one generator.

        Raises:
            UsageError: a negative prompt, which transformers' loop does not know.
        """
        options: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            options = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
            }
        pictures = []
        for drawing in drawings:
            if list(drawing.unconditional) != self.writer.unconditional(drawing.ids):
                raise UsageError(
                    "--negative: not known to --backend transformers; leave one of them"
                )
            tokens = torch.tensor([drawing.ids], device=self.model.device)
            torch.manual_seed(drawing.seed)
            config = self.generation_config(sampling.guidance, len(drawing.ids), options)
            pictures.append(
                self.model.generate(
                    input_ids=tokens,
                    attention_mask=torch.ones_like(tokens),
                    generation_mode="image",
                    generation_config=config,
                    logits_processor=weak_guidance(sampling.guidance),
                )
            )
        yield from torch.cat(pictures).T

    def generation_config(self, guidance: float, prompt: int, options: dict[str, Any]) -> Any:
        """What the published generation_config.json says, with the ids of this tokenizer."""
        from transformers import GenerationConfig

        return GenerationConfig(
            guidance_scale=guidance,
            max_length=prompt + self.image_tokens,
            bos_token_id=self.writer.begin_of_sentence,
            eos_token_id=self.writer.end_of_sentence,
            pad_token_id=self.writer.pad,
            generation_kwargs={"boi_token_id": self.writer.begin_of_image},
            **options,
        )

    def paint(self, codes: Tensor) -> Tensor:
        """As Native.paint."""
        with torch.inference_mode():
            pixels = [self.model.decode_image_tokens(row[None]) for row in codes]
            return to_bytes(torch.cat(pixels).movedim(-1, 1)).cpu()


class TokenStreamer:
    """What `generate` calls with the prompt and then with every new token."""

    def __init__(self, tokens: queue.Queue[int | BaseException | None], end: int) -> None:
        self.tokens = tokens
        self.end_of_sentence = end
        self.prompt_seen = False

    def put(self, value: Tensor) -> None:
        if self.prompt_seen and value.item() != self.end_of_sentence:
            self.tokens.put(int(value.item()))
        self.prompt_seen = True

    def end(self) -> None:
        """Called after the last token; the thread says so itself."""


def weak_guidance(scale: float) -> Any:
    """Guidance of 1 or less: transformers adds no processor for it and fails on the shape."""
    from transformers import LogitsProcessorList

    def process(_: Tensor, logits: Tensor) -> Tensor:
        conditional, unconditional = logits.chunk(2)
        return guide(conditional, unconditional, scale)

    return LogitsProcessorList([process] if scale <= 1 else [])


def grouped(groups: int) -> type[nn.GroupNorm]:
    """GroupNorm with the checkpoint's number of groups, where transformers writes a fixed 32."""

    class GroupNorm(nn.GroupNorm):
        def __init__(self, num_groups: int, num_channels: int, **options: Any) -> None:
            super().__init__(groups, num_channels, **options)

    return GroupNorm
