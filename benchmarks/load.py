"""What loading a checkpoint takes: seconds and peak memory, beside transformers' from_pretrained.

    python benchmarks/make_checkpoint.py janus-pro-1b -o /tmp/1b
    python benchmarks/make_checkpoint.py janus-pro-1b --layout transformers -o /tmp/1b-hf
    janus quantize /tmp/1b --precision int4 -o /tmp/1b-int4
    python benchmarks/load.py /tmp/1b:bf16 /tmp/1b:int4 /tmp/1b-int4 --transformers /tmp/1b-hf:bf16

Every load is a process of its own, after one that brings the files into the page cache, as far as
they fit; beside it stand how long the same process takes to read the files there and drop what it
read, and to touch every page of the weights once they are ready: what is mapped comes only then.
Peak memory is what the system saw of the process once every page had been touched, without what the
process took after its imports; the bound is the weights, their largest tensor and 1 GB. Every part
of the model is loaded, though `ask` and `imagine` load less.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from start import machine

MB = 10**6


def main() -> None:
    """Measure every load and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="PATH[:PRECISION]")
    parser.add_argument("--transformers", action="append", default=[], metavar="PATH:PRECISION")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(load(options.child, options.models[0])))
        return
    loads = [("janus", model) for model in options.models]
    loads += [("transformers", model) for model in options.transformers]
    results: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in loads}
    for backend, model in loads:
        for run in range(options.runs + 1):
            command = [sys.executable, __file__, "--child", backend, model]
            ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            if run > 0:
                results[backend, model].append(json.loads(ended.stdout.splitlines()[-1]))
    print(f"{machine()}; medians of {options.runs} loads after one that is not counted.\n")
    times = "read in | ready in | touched in"
    print(f"| loaded by | checkpoint | files | {times} | weights | peak memory | bound |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for (backend, model), runs in results.items():
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        sizes = (f"{median[key] / 1000:.2f} GB" for key in ("files", "weights", "peak", "bound"))
        files, weights, peak, bound = sizes
        spent = (f"{median[key]:.2f} s" for key in ("reading", "seconds", "touching"))
        row = (backend, model, files, *spent, weights, peak, bound)
        print("| " + " | ".join(row) + " |")


def load(backend: str, model: str) -> dict[str, float]:
    """Load in this process; seconds, and megabytes of files, weights and memory."""
    import torch

    from janus_cli.engine.load import open_engine
    from janus_cli.schema import ModelChoice

    path, _, precision = model.partition(":")
    choice = ModelChoice(device="cpu", precision=precision or "auto", backend=backend)
    if backend == "transformers":
        from transformers import JanusForConditionalGeneration  # noqa: F401 - imports are not counted
    patterns = ("*.safetensors", "*.bin")
    files = [file for kind in patterns for file in Path(path).glob(kind)]
    reading = read(files)
    before = peak()
    begun = time.perf_counter()
    engine = open_engine(Path(path), choice)
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    tensors = [*engine.model.parameters(), *engine.model.buffers()]
    for tensor in tensors:
        tensor.view(-1).view(torch.uint8)[::4096].sum()
    touching = time.perf_counter() - begun
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    return {
        "seconds": seconds,
        "touching": touching,
        "reading": reading,
        "files": sum(file.stat().st_size for file in files) / MB,
        "weights": sum(sizes) / MB,
        "peak": (peak() - before) / MB,
        "bound": (sum(sizes) + largest_tensor(Path(path))) / MB + 1000,
    }


def read(files: Sequence[Path]) -> float:
    """Seconds to read files from the page cache into memory that is there already."""
    memory = bytearray(64 * MB)
    memory[::4096] = bytes(len(memory[::4096]))
    begun = time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(memory):
                pass
    return time.perf_counter() - begun


def largest_tensor(path: Path) -> int:
    """Bytes of the largest tensor in the files."""
    import math
    from contextlib import ExitStack

    from janus_cli.engine.checkpoint import open_checkpoint

    with ExitStack() as stack:
        tensors = open_checkpoint(path, stack).tensors.values()
        return max(math.prod(tensor.shape) * tensor.read().element_size() for tensor in tensors)


def peak() -> int:
    """The most memory that this process has had resident, in bytes."""
    if sys.platform == "linux":  # where ru_maxrss begins with what the parent had
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


if __name__ == "__main__":
    main()
