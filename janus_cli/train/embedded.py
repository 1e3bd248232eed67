"""The whole recipe of the embedded model, from nothing to a folder that the program loads.

What the papers take ready-made comes first: the VQ tokenizer, the vision tower, and a decoder that
knows words. The three stages of Janus-Pro follow, with the rates of a small model that starts from
nothing. A stage that is finished is not done again, and one that was interrupted goes on, so the
same command carries on over as many runs as it takes.

On a CPU the last stage learns more in its time from encoded pictures, `--pool 12000`; what comes
out of it can go on as the papers have it, with `--base` and another `--folder`.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import torch

from .export import draw_examples, export
from .keeping import INSIDE, STATE
from .pool import write_pool
from .pupil import open_pupil
from .request import TrainRequest
from .run import open_run
from .stamps import Stamps
from .start import write_start
from .world.source import World

SHARES = {"vq": 0.13, "vision": 0.35, "words": 0.04, "1": 0.02, "2": 0.12, "3": 0.34}
"""Of the minutes that there are; what each stage was worth is in weights/embedded/README.md."""
LAST = "3"
RATES = {"words": 2e-3, "1": 2e-3, "2": 2e-3, "3": 2e-3}
ENCODERS = {"vq": "vq_stage", "vision": "vision_stage"}
SHOWN = 25  # steps between two lines


def minutes_of(name: str, options: argparse.Namespace) -> float:
    """What one part gets of the minutes for all that are wanted."""
    wanted = [*([] if options.base else ENCODERS), *options.stages]
    share = SHARES[name] / sum(SHARES[part] for part in wanted)
    return float(share * options.minutes)


def train_encoder(name: str, options: argparse.Namespace) -> None:
    """The VQ tokenizer or the vision tower, in a process of its own."""
    batch = options.batch if name == "vision" else max(4, options.batch // 2)
    command = [sys.executable, "-m", f"{__package__}.{ENCODERS[name]}"]
    command += ["--minutes", str(minutes_of(name, options)), "--batch", str(batch)]
    command += ["--device", options.device, "--workers", str(options.workers)]
    command += ["--threads", str(options.threads), "--out", str(options.folder / f"{name}.part.pt")]
    subprocess.run(command, check=True)
    (options.folder / f"{name}.part.pt").rename(options.folder / f"{name}.pt")


def train_stage(name: str, base: Path, options: argparse.Namespace) -> Path:
    """One stage of the loop on the picture world; the folder of its model."""
    folder: Path = options.folder / f"stage-{name}"
    if (folder / "config.json").is_file():
        return folder
    request = TrainRequest(
        data=(),
        output=str(folder),
        model=str(base),
        stage=name,
        minutes=minutes_of(name, options),
        fall=options.fall if name == LAST else 0.0,
        batch=options.batch,
        length=options.length,
        rate=options.rate or RATES[name],
        optimizer="muon",
        device=options.device,
        workers=options.workers,
        mixture=options.mixture,
        seed=options.seed,
        resume=(folder / INSIDE / STATE).is_file(),
    )
    pool = fill_pool(base, options) if options.pool and name == LAST else None
    run, _ = open_run(request, pool)
    for record, _ in run.go():
        if record.step % SHOWN == 0:
            losses = " ".join(
                f"{kind} {value:.4f}"
                for kind, value in (("words", record.words), ("codes", record.codes))
                if value is not None
            )
            print(f"stage {name} step {record.step} {losses}", flush=True)
    run.finish()
    return folder


def fill_pool(base: Path, options: argparse.Namespace) -> Path:
    """Pictures that the encoders of a model have encoded, and half as many drawings, if any."""
    folder: Path = options.folder / "pool"
    if not folder.is_dir():
        pupil = open_pupil(base, torch.device(options.device))
        counts, stamps = {"understanding": options.pool}, Stamps.find(base)
        if stamps is None:
            counts["generation"] = max(1, options.pool // 2)
        world = World(pupil.preprocessing, seed=options.seed, stamps=stamps)
        write_pool(pupil, world, folder, counts, workers=options.workers)
    return folder


def train(options: argparse.Namespace) -> None:
    """All that is not finished yet, in its order."""
    options.folder.mkdir(parents=True, exist_ok=True)
    base = options.base or begin(options)
    for name in options.stages:
        base = train_stage(name, base, options)
    export(base, options.out)
    draw_examples(options.out / "examples")


def begin(options: argparse.Namespace) -> Path:
    """The encoders, with networks around them that know nothing yet."""
    for name in ENCODERS:
        if not (options.folder / f"{name}.pt").is_file():
            train_encoder(name, options)
    base: Path = options.folder / "start"
    if not (base / "config.json").is_file():
        write_start(options.folder / "vision.pt", options.folder / "vq.pt", base)
    return base


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="for all parts together")
    parser.add_argument("--stages", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--base", type=Path, help="a trained model to go on from, in fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=24, help="pictures, or lessons, of a step")
    parser.add_argument(
        "--length", type=int, default=640, help="positions: one picture with its words"
    )
    parser.add_argument("--mixture", help="of all stages, where it is not that of the papers")
    parser.add_argument("--rate", type=float, help="of all stages, instead of their own")
    parser.add_argument(
        "--fall", type=float, default=0.4, help="share of the last stage in which its rate falls"
    )
    parser.add_argument(
        "--pool", type=int, help="encoded pictures that the last stage learns from, tower frozen"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the pictures")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, default=Path("weights/training/embedded"))
    parser.add_argument("--out", type=Path, default=Path("weights/training/embedded/model"))
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what is done is kept
    torch.set_num_threads(chosen.threads)
    torch.set_float32_matmul_precision("high")
    try:
        train(chosen)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it was")
