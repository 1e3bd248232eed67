"""A folder of pictures described: one run, a process for each, a warm model, and transformers.

    python benchmarks/folder.py [--model embedded] [--pictures 200] [--each 20] [--precision fp32]

The pictures are drawn by the code that trained the embedded model. One run, cold and warm, and the
script around transformers do all of them; of the loops that start a process for every picture, the
first `--each` pictures stand for all. Every way is run once before it is measured, on one picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from start import JANUS, ROOT, machine

SCRIPT = Path(__file__).resolve().parent / "folder_peer.py"
TOKENS = "16"


def draw(folder: Path, count: int) -> list[str]:
    """Pictures as the embedded model knows them, in a folder; their names."""
    from PIL import Image

    from janus_cli.train.world.render import render
    from janus_cli.train.world.scene import sample_scene

    folder.mkdir()
    names = []
    for seed in range(count):
        names.append(f"{folder.name}/{seed:04d}.png")
        picture = Image.fromarray(render(sample_scene(10**9 + seed)))
        picture.save(folder.parent / names[-1])
    return names


class Ways:
    """The ways to describe pictures; each takes names and returns the answers."""

    def __init__(self, options: argparse.Namespace, place: str) -> None:
        self.place = place
        self.flags = ["--model", options.model, "--precision", options.precision]
        self.flags += ["--detail", "short", "--max-tokens", TOKENS, "--json"]
        self.peer = [options.model, options.precision, TOKENS]
        # A folder of its own for the socket, so that no other warm model answers.
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": place}
        self.environment.pop("JANUS_KEEP_ALIVE", None)

    def run(self, command: Sequence[str]) -> list[str]:
        """The answers on a command's standard output."""
        ended = subprocess.run(
            command, cwd=self.place, env=self.environment, check=True, stdout=subprocess.PIPE
        )
        return [json.loads(line)["text"] for line in ended.stdout.splitlines()]

    def in_one(self, names: Sequence[str]) -> list[str]:
        return self.run([*JANUS, "describe", *names, *self.flags])

    def one_by_one(self, names: Sequence[str]) -> list[str]:
        return [answer for name in names for answer in self.in_one([name])]

    def by_transformers(self, names: Sequence[str]) -> list[str]:
        return self.run([sys.executable, str(SCRIPT), *self.peer, *names])

    def keep_warm(self) -> None:
        self.environment["JANUS_KEEP_ALIVE"] = "10m"

    def stop(self) -> None:
        subprocess.run([*JANUS, "stop"], env=self.environment, check=True, capture_output=True)


def measured(way: Callable[[Sequence[str]], list[str]], names: Sequence[str]) -> tuple[float, list]:
    """Seconds for each picture, and the answers."""
    way(names[:1])
    begun = time.perf_counter()
    answers = way(names)
    return (time.perf_counter() - begun) / len(names), answers


def main() -> None:
    """Measure every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--each", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="janus-") as place:
        names = draw(Path(place) / "photos", options.pictures)
        few = names[: options.each]
        ways = Ways(options, place)
        rows = [("janus, one run", len(names), *measured(ways.in_one, names))]
        rows.append(
            (
                "transformers, a script that loops",
                len(names),
                *measured(ways.by_transformers, names),
            )
        )
        rows.append(("janus, a process for each", len(few), *measured(ways.one_by_one, few)))
        ways.keep_warm()
        rows.append(("janus, one run, warm", len(names), *measured(ways.in_one, names)))
        rows.append(("janus, a process for each, warm", len(few), *measured(ways.one_by_one, few)))
        ways.stop()
    best = rows[0][2]
    print(f"{machine('transformers')}; model {options.model} in {options.precision}.\n")
    print("| way | pictures | seconds for each | of one run | same answers |")
    print("|---|--:|--:|--:|--:|")
    for way, count, seconds, answers in rows:
        same = sum(a == b for a, b in zip(answers, rows[0][3], strict=False))
        print(f"| {way} | {count} | {seconds:.3f} | {seconds / best:.1f} × | {same} of {count} |")


if __name__ == "__main__":
    main()
