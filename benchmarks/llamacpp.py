"""Our decoder beside llama.cpp's on a CPU, the same sizes and threads, in one run, in turns.

    pip install gguf llama-cpp-python
    python benchmarks/make_checkpoint.py janus-pro-1b --layout transformers -o /tmp/1b
    python benchmarks/llamacpp.py --model /tmp/1b [--precision int4] [--runs 3]

Tokens a second, the model already loaded: a prompt of 600, as long as one with a picture in it, and
the 32 after it, one at a time. Both sides compute logits after the prompt and after every step, and
neither picks from them. llama.cpp gets a file of random weights in the sizes of our checkpoint, its
layers in the type that is nearest to our precision, its embeddings and head as llama-quantize would
make them. --head BF16 gives it the head of 16 bits that ours has.

llama-bench is run where it is found, else llama-cpp-python in this process.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from start import machine

from janus_cli.engine.config import LanguageConfig
from janus_cli.engine.decode import Native
from janus_cli.engine.load import open_engine
from janus_cli.schema import ModelChoice
from janus_cli.weights import find_model

PROMPT, STEPS = 600, 32
TYPES = {
    "int4": "Q4_0",
    "nf4": "Q4_0",
    "int8": "Q8_0",
    "bf16": "BF16",
    "fp16": "F16",
    "fp32": "F32",
}
HEADS = ("Q6_K", "Q8_0", "BF16", "F16", "F32")
Q6_K = 256, 210  # numbers and bytes of a block
ROWS = 256  # of random numbers in a matrix, which then repeat

Rates = tuple[float, float]
"""Tokens a second: of the prompt, and of the steps after it."""


class Ours:
    """The decoder of a loaded engine."""

    def __init__(self, engine: Native, ids: list[int]) -> None:
        self.engine = engine
        tokens = torch.tensor([ids])  # (1, T)
        self.prompt, self.others = tokens[:, :PROMPT], tokens[0, PROMPT:, None]

    @torch.inference_mode()
    def run(self) -> Rates:
        model = self.engine.model
        cache = self.engine.new_cache(rows=1, capacity=PROMPT + STEPS)

        def prefill() -> None:
            model.text_logits(model.language.prefill(model.embed_text(self.prompt), cache, [0]))

        def steps() -> None:
            for token in self.others:  # (1,)
                model.text_logits(model.language.step(model.embed_text(token), cache))

        return rates(prefill, steps)


class Package:
    """llama-cpp-python."""

    def __init__(self, file: Path, ids: list[int], threads: int) -> None:
        import llama_cpp

        # The batch and attention that llama-bench takes; this package has other defaults.
        self.llama = llama_cpp.Llama(
            str(file),
            n_ctx=PROMPT + STEPS,
            n_batch=PROMPT,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=True,
            op_offload=False,
            verbose=False,
        )
        self.prompt, self.others = ids[:PROMPT], ids[PROMPT:]
        features = re.findall(r"(\w+) = 1", llama_cpp.llama_print_system_info().decode())
        self.version = f"llama-cpp-python {llama_cpp.__version__} ({', '.join(features)})"

    def run(self) -> Rates:
        def steps() -> None:
            for token in self.others:
                self.llama.eval([token])

        self.llama.reset()
        return rates(lambda: self.llama.eval(self.prompt), steps)


class Program:
    """llama-bench, which makes up its tokens itself and begins with a run that is not counted."""

    def __init__(self, program: str, file: Path, threads: int) -> None:
        cpu_only = ["-ngl", "0", "-nopo", "1"]
        self.command = [program, "-m", str(file), "-t", str(threads), *cpu_only, "-r", "1"]
        report = self.report("-p", "1", "-n", "0")
        self.version = f"llama.cpp build {report['build_number']} ({report['build_commit']})"

    def run(self) -> Rates:
        prompt = self.report("-p", str(PROMPT), "-n", "0")
        steps = self.report("-p", "0", "-n", str(STEPS), "-d", str(PROMPT))
        return prompt["avg_ts"], steps["avg_ts"]

    def report(self, *test: str) -> dict[str, Any]:
        command = [*self.command, *test, "-o", "json"]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report: dict[str, Any] = json.loads(ended.stdout)[0]
        return report


def rates(prefill: Callable[[], object], steps: Callable[[], object]) -> Rates:
    begun = time.perf_counter()
    prefill()
    between = time.perf_counter()
    steps()
    return PROMPT / (between - begun), STEPS / (time.perf_counter() - between)


def head_type(layers: str, width: int) -> str:
    """What llama-quantize makes of the head where the layers are of this type."""
    if layers != "Q4_0":
        return layers
    return "Q6_K" if width % Q6_K[0] == 0 else "Q8_0"


def write_gguf(file: Path, config: LanguageConfig, layers: str, head: str) -> None:
    """A Llama of these sizes with random weights and nameless tokens.

    All layers are alike, since a processor is no faster for it.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocabulary)
    shapes = {
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    norm = np.ones(width, dtype=np.float32)
    matrices = {name: random_matrix(*shape, layers) for name, shape in shapes.items()}
    kind = GGMLQuantizationType[layers]
    for layer in range(config.layers):
        for name, matrix in matrices.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix, raw_dtype=kind)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", norm)
    embeddings = random_matrix(config.vocabulary, width, layers)
    words = random_matrix(config.vocabulary, width, head)
    writer.add_tensor("token_embd.weight", embeddings, raw_dtype=kind)
    writer.add_tensor("output_norm.weight", norm)
    writer.add_tensor("output.weight", words, raw_dtype=GGMLQuantizationType[head])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_matrix(outputs: int, inputs: int, name: str) -> np.ndarray:
    """A weight (outputs, inputs) as a GGUF file holds it; activations stay near one."""
    from gguf import GGMLQuantizationType, quants

    numbers = np.random.default_rng(0)
    rows, scale = min(outputs, ROWS), inputs**-0.5
    if name == "Q6_K":  # which gguf does not write: 128 + 64 bytes of codes, 16 scales, their scale
        size, length = Q6_K
        blocks = numbers.integers(256, size=(rows, inputs // size, length), dtype=np.uint8)
        blocks[..., 192:208] = 1
        spread = 64 / 12**0.5  # of codes that are uniform in -32..31
        blocks[..., 208:] = np.array([scale / spread], dtype=np.float16).view(np.uint8)
        held = blocks.reshape(rows, -1)
    else:
        weight = numbers.standard_normal((rows, inputs), dtype=np.float32) * np.float32(scale)
        held = quants.quantize(weight, GGMLQuantizationType[name])
    return np.resize(held, (outputs, held.shape[1]))


def find_program(chosen: str | None) -> str | None:
    """The path of llama-bench, if there is one; ends the process where something is lacking."""
    program = shutil.which(chosen or "llama-bench")
    if chosen and not program:
        sys.exit(f"--llama-bench {chosen}: is not a program")
    lacking = [] if find_spec("gguf") else ["gguf"]
    if not program and not find_spec("llama_cpp"):
        lacking.append("llama-cpp-python")
    if lacking:
        instead = "" if program else ", or name a program with --llama-bench instead of the latter"
        sys.exit(f"llama.cpp is not installed: pip install {' '.join(lacking)}{instead}")
    return program


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--precision", choices=TYPES, default="int4")
    parser.add_argument("--head", choices=HEADS, help="type of llama.cpp's head")
    parser.add_argument("--llama-bench", metavar="PATH", help="else the one on PATH")
    parser.add_argument("--gguf", type=Path, metavar="PATH", help="where to leave llama.cpp's file")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    program = find_program(options.llama_bench)
    if options.gguf and options.gguf.exists():
        sys.exit(f"--gguf {options.gguf}: exists, and would be overwritten")
    choice = ModelChoice(options.model, "cpu", options.precision)
    engine = open_engine(find_model(options.model), choice, drawing=False)
    assert isinstance(engine, Native)  # the backend of every choice that names none
    config, threads = engine.model.config.language, torch.get_num_threads()
    layers = TYPES[options.precision]
    head = options.head or head_type(layers, config.hidden_size)
    ids = np.random.default_rng(0).integers(config.vocabulary, size=PROMPT + STEPS).tolist()
    with tempfile.TemporaryDirectory() as folder:
        file = options.gguf or Path(folder, "random.gguf")
        write_gguf(file, config, layers, head)
        ours = Ours(engine, ids)
        theirs = Program(program, file, threads) if program else Package(file, ids, threads)
        ours.run(), theirs.run()
        pairs = [(ours.run(), theirs.run()) for _ in range(options.runs)]
    print(f"{machine()}, {theirs.version}; threads: {threads}, medians of {options.runs} runs\n")
    print(f"`python benchmarks/llamacpp.py {shlex.join(sys.argv[1:])}`\n")
    print(f"| tokens a second | janus, {engine.name} in {engine.precision} ", end="")
    print(f"| llama.cpp, {layers}, head {head} | ratio |\n|---|--:|--:|--:|")
    for index, name in enumerate((f"prompt of {PROMPT}", f"{STEPS} after it, one at a time")):
        mine, others = (
            statistics.median(run[index] for run in runs) for runs in zip(*pairs, strict=True)
        )
        print(f"| {name} | {mine:.1f} | {others:.1f} | {mine / others:.2f} × |")


if __name__ == "__main__":
    main()
