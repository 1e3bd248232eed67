"""How well a model of the small world answers and draws, as one markdown table.

    python -m janus_cli.train.evaluate --precision fp32 bf16 int8 int4
    python -m janus_cli.train.evaluate --model weights/mine --cases 100 --drawings 60

Answers and pictures come from the engine, just as the program gets them; all scenes are held out
and look unlike those of training: see style.py. No picture serves two cases of a row, so cases are
independent and intervals are those of Wilson. A time stands between the shortest and the longest,
and needs a machine that does nothing else. The bars are what the embedded model is to reach.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ...engine.decode import Sampling
from ...engine.load import Engine, open_engine
from ...errors import JanusError
from ...schema import PRECISIONS, ModelChoice, Wish
from ...weights import EMBEDDED, find_model
from ..stamps import Stamps
from ..world.style import fonts, unseen_fonts
from .agreement import agree
from .costs import measure_costs
from .drawings import draw_orders, judge, overall
from .exams import examine, possible_exams
from .likelihood import measure_losses
from .progress import show
from .scores import Row, gain, table
from .sheet import draw_sheet

CASES, DRAWINGS, LOSSES = 1000, 600, 200
GAIN_BAR = 10  # of a hundred pictures, by which guidance must draw more of them right


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=about)
    parser.add_argument("--model", default=EMBEDDED, help="a checkpoint folder or a name")
    parser.add_argument("--cases", type=int, default=CASES, help="questions of each sort")
    parser.add_argument("--drawings", type=int, default=DRAWINGS, help="pictures, each of a prompt")
    parser.add_argument("--losses", type=int, default=LOSSES, help="pictures to take losses of")
    parser.add_argument("--no-costs", action="store_true", help="leave out times and size")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["auto"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="pictures drawn at once; else what fits")
    parser.add_argument("--guidance", type=float, help="else the model's own")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a sheet of drawings, PNG")
    return parser.parse_args(arguments)


def evaluate(
    engine: Engine, folder: Path, sampling: Sampling, wanted: argparse.Namespace
) -> list[Row]:
    """All rows of one engine."""
    rows: list[Row] = []
    if wanted.cases:
        rows += [row for exam in possible_exams() for row in examine(engine, exam, wanted.cases)]
    if wanted.drawings:
        rows += judge_drawings(engine, wanted.drawings, sampling, wanted.batch)
    if wanted.losses:
        rows += measure_losses(engine, wanted.losses, Stamps.find(folder))
    if not wanted.no_costs:
        rows += measure_costs(engine, folder, sampling)
    if wanted.sheet:
        draw_sheet(engine, sampling, wanted.sheet)
    show("")
    return rows


def judge_drawings(
    engine: Engine, drawings: int, sampling: Sampling, batch: int | None
) -> list[Row]:
    """Drawings judged, compared with those without guidance, and asked about."""
    guided = list(draw_orders(engine, drawings, sampling, batch))
    plain = list(draw_orders(engine, drawings, Sampling(guidance=1), batch))
    without = overall("drawn: overall, guidance 1", plain)
    more = gain("drawn: overall, gained by guidance", overall("", guided), without, GAIN_BAR)
    return [*judge(guided), without, more, *agree(engine, guided)]


def notes(wanted: argparse.Namespace, sampling: Sampling) -> list[str]:
    """What a reader of the table must know."""
    unseen = ", ".join(Path(name).stem for name in unseen_fonts())
    missing = "No font that training never saw is installed here: reading is measured in its own."
    return [
        f"{wanted.device}, guidance {sampling.guidance:g}; {len(fonts())} fonts of training.",
        f"Unseen fonts: {unseen}." if unseen else missing,
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate at every precision, print the table and write the report."""
    wanted = read_arguments(arguments)
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    columns: dict[str, list[Row]] = {}
    try:
        folder = find_model(wanted.model)
        for precision in wanted.precision:
            engine = open_engine(folder, ModelChoice(wanted.model, wanted.device, precision))
            sampling = engine.sampling(Wish("anything", guidance=wanted.guidance))
            columns[engine.precision] = evaluate(engine, folder, sampling, wanted)
    except JanusError as error:
        sys.exit(str(error))
    print(table(columns), "", *notes(wanted, sampling), sep="\n")
    if wanted.json:
        rows = {name: [asdict(row) for row in column] for name, column in columns.items()}
        report = {"model": wanted.model, "notes": notes(wanted, sampling), "precisions": rows}
        wanted.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
