"""What the benchmarks of the engine share: peers, requests of real sizes, clocks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Native
from janus_cli.engine.load import Engine, open_engine
from janus_cli.engine.machine import choose_device
from janus_cli.engine.precision import multiplies_bf16
from janus_cli.engine.reference import Reference
from janus_cli.schema import ModelChoice

WORDS = 60  # of a prompt around its picture: the system's, the roles' and a question's
OUTSIDE = (  # transformers' names of what is not the decoder's layers
    "model.vision_model",
    "model.aligner",
    "model.vqmodel",
    "model.generation_embeddings",
    "model.generation_aligner",
    "model.generation_head",
    "lm_head",
)
READ = 1 << 30  # bytes, far more than any cache holds


def four_bits(device: torch.device) -> str:
    """The 4-bit precision that `auto` would take."""
    return "nf4" if device.type == "cuda" or multiplies_bf16() else "int4"


def ours(path: Path, precision: str, device: str) -> Native:
    engine = open_engine(path, ModelChoice(device=device, precision=precision))
    assert isinstance(engine, Native)
    return engine


def theirs(path: Path, precision: str, device: str) -> Reference:
    """transformers' networks and loops; nf4 is that of bitsandbytes, computing in bf16."""
    choice = ModelChoice(device=device, precision="bf16", backend="transformers")
    if precision != "nf4":
        choice = ModelChoice(device=device, precision=precision, backend="transformers")
    engine = open_engine(path, choice)
    assert isinstance(engine, Reference)
    if precision == "nf4":
        engine.model = in_nf4(path, engine, choose_device(device))
    return engine


def in_nf4(path: Path, engine: Reference, device: torch.device) -> nn.Module:
    """The same model as bitsandbytes holds it in 4 bits.

    The decoder's layers alone, as ours: on a processor with AVX-512-BF16 its product fails at the
    8 inputs of the generation aligner.
    """
    from transformers import BitsAndBytesConfig, JanusForConditionalGeneration

    kept = engine.model
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(OUTSIDE),
    )
    model = JanusForConditionalGeneration.from_pretrained(
        path,
        dtype=torch.bfloat16,
        local_files_only=True,
        quantization_config=quantization,
        device_map=device,
    )
    # What reference.py mends in the model that it loads itself.
    model.model.vqmodel.quantize.quant_state_dims = kept.model.vqmodel.quantize.quant_state_dims
    tokens = kept.model.vision_model.config.num_image_tokens
    model.model.vision_model.config.num_image_tokens = tokens
    model.config.image_token_id = kept.config.image_token_id
    return model.eval()


def random_words(engine: Engine, count: int, seed: int) -> list[int]:
    """Ids of ordinary words, since random weights answer nothing sensible anyway."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1000, 50_000, (count,), generator=generator).tolist()


def question(
    engine: Engine, seed: int, pixels: torch.Tensor | None = None, words: int = 0
) -> Prompt:
    """A prompt about one picture, as long as a real one; prompts of one picture begin alike.

    `words` of its words are its own.
    """
    writer = engine.writer
    size = engine.preprocessing.size
    if pixels is None:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.rand(1, 3, size, size, generator=generator) * 2 - 1
    slots = [writer.placeholder] * writer.image_tokens
    before = [writer.begin_of_sentence, *random_words(engine, WORDS - words, 0)]
    picture = [writer.begin_of_picture, *slots, writer.end_of_image]
    return Prompt([*before, *picture, *random_words(engine, words, seed)], pixels)


def drawing(engine: Engine, seed: int, words: int = 16) -> Drawing:
    """A picture of a prompt of some words."""
    writer = engine.writer
    ids = [writer.begin_of_sentence, *random_words(engine, words, 0), writer.begin_of_image]
    return Drawing(ids, writer.unconditional(ids), seed)


def never_ending(engine: Engine) -> None:
    """Let no answer end by itself: the last id of the vocabulary is nobody's word."""
    engine.writer.end_of_sentence = engine.writer.tokenizer.get_vocab_size() - 1


def forget(engine: Engine) -> None:
    """Let the next answer begin anew: ours keeps what it has seen of the last one's picture."""
    if isinstance(engine, Native):
        engine.past = None


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    begun = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begun


def median_seconds(work: Callable[[], object], device: torch.device, runs: int = 9) -> float:
    """The median of several runs after one that is not counted."""
    work()
    return statistics.median(seconds(work, device) for _ in range(runs))


def bandwidth(device: torch.device) -> float:
    """Bytes a second: read by a plain sum on a CPU, read and written by a copy on a GPU."""
    numbers = torch.ones(READ // 4, device=device)
    if device.type == "cuda":
        other = torch.empty_like(numbers)
        return 2 * READ / median_seconds(lambda: other.copy_(numbers), device)
    return READ / median_seconds(numbers.sum, device)


def bytes_of(*modules: nn.Module) -> int:
    """What a step reads of these modules' weights."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
