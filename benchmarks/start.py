"""What it costs to start: janus beside the least that the same work needs, in turns.

    python benchmarks/start.py [--runs 7] [--model PATH] [--picture FILE]

Each pair is run alternately in fresh processes, after one run of each that is not counted. The
table gives medians of the wall clock, and the bound that each should keep.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PENGUINS = ROOT / "weights" / "embedded" / "examples" / "penguins.png"
JANUS = [sys.executable, "-m", "janus_cli"]


def seconds(command: list[str], folder: str) -> float:
    """The wall clock of one process; it must succeed."""
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def alternate(one: list[str], other: list[str], runs: int, folder: str) -> tuple[float, float]:
    """Medians of two commands that take turns."""
    seconds(one, folder), seconds(other, folder)
    times = [(seconds(one, folder), seconds(other, folder)) for _ in range(runs)]
    ours, theirs = zip(*times, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def warm(command: list[str], runs: int, folder: str) -> tuple[float, float]:
    """Medians of a call that a warm model answers, and of the model's own time in it."""
    alive = {**os.environ, "JANUS_KEEP_ALIVE": "10m", "XDG_RUNTIME_DIR": folder}
    times = []
    for _ in range(runs + 1):  # the first one loads the model
        begun = time.perf_counter()
        ended = subprocess.run([*command, "--json"], env=alive, check=True, stdout=subprocess.PIPE)
        times.append((time.perf_counter() - begun, json.loads(ended.stdout)["seconds"]))
    subprocess.run([*JANUS, "stop"], env=alive, check=True, capture_output=True)
    whole, models = zip(*times[1:], strict=True)
    return statistics.median(whole), statistics.median(models)


def machine(*more: str) -> str:
    """The processor, its cores and the versions, those of `more` packages too, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "typer", *more))
    processor = names[0] if names else platform.processor()
    return f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"


def main() -> None:
    """Measure the three pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--picture", type=Path, default=PENGUINS)
    options = parser.parse_args()

    def janus(*args: str) -> list[str]:
        return [*JANUS, *args, "--model", options.model]

    def python(code: str) -> list[str]:
        return [sys.executable, "-c", code]

    question = ("ask", str(options.picture.resolve()), "how many penguins?")
    drawing = ("imagine", "two red circles on white", "--seed", "7", "--force")
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:

        def measure(one: list[str], other: list[str]) -> tuple[float, float]:
            return alternate(one, other, options.runs, folder)

        help_time, typer_time = measure([*JANUS, "--help"], python("import typer"))
        ask_time, torch_time = measure(janus(*question), python("import torch"))
        four_time, one_time = measure(janus(*drawing, "-n", "4"), janus(*drawing, "-n", "1"))
        warm_time, model_time = warm(janus(*question), options.runs, folder)

    rows = [
        ("`janus --help`", help_time, "`import typer`", typer_time, "at most 2.5 times", True),
        ("`janus ask`", ask_time, "`import torch`", torch_time, "at most 0.7 s more", False),
        ("`imagine -n 4`", four_time, "`imagine -n 1`", one_time, "at most 2 times", True),
        (
            "`janus ask`, warm",
            warm_time,
            "the model in it",
            model_time,
            "at most 0.15 s more",
            False,
        ),
    ]
    print(f"{machine()}; medians of {options.runs} alternating runs, whole processes.\n")
    print("| command | seconds | beside | seconds | difference | wanted |")
    print("|---|--:|---|--:|--:|---|")
    for ours, a, theirs, b, wanted, as_ratio in rows:
        difference = f"{a / b:.2f} times" if as_ratio else f"{a - b:.2f} s more"
        print(f"| {ours} | {a:.3f} | {theirs} | {b:.3f} | {difference} | {wanted} |")


if __name__ == "__main__":
    main()
