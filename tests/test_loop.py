"""The loop: it learns, its passes add up, it ends when it should, and it goes on as if unbroken."""

from __future__ import annotations

import math
import signal
from dataclasses import fields
from itertools import islice
from pathlib import Path

import pytest
import torch

from janus_cli.errors import InputError, OutputError, UsageError
from janus_cli.train import keeping
from janus_cli.train.lessons import Lesson
from janus_cli.train.loop import CLIP, Settings, Trainer
from janus_cli.train.mixture import Mixture
from janus_cli.train.stages import STAGES
from janus_cli.train.stream import DROPPED_CAPTIONS, Material
from tests.lessons import Numbered, course, make_course
from tests.tiny_janus import Tiny, tiny_janus

ALL = Mixture(2, 1, 1)


def make_trainer(**settings) -> tuple[Tiny, Trainer]:
    tiny = tiny_janus()
    STAGES["3"].mark(tiny.model)
    values = {"rate": 3e-3, "steps": 6} | settings
    return tiny, Trainer(tiny.model, tiny.preprocessing, Settings(**values))


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def train(trainer: Trainer, materials) -> None:
    for _ in trainer.run(materials):
        pass


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns_a_few_lessons_by_heart(optimizer):
    tiny, trainer = make_trainer(steps=15, optimizer=optimizer)
    train(trainer, make_course(tiny, ALL, source=Numbered(2)).stream(0))
    first, last = trainer.records[0], trainer.records[-1]
    assert last.words < 0.5 * first.words
    assert last.codes < 0.8 * first.codes


def test_a_run_that_is_resumed_ends_as_one_that_was_not(tmp_path):
    """Bit by bit: six steps are three and, in a new process' place, three more."""
    for optimizer in ("adamw", "muon"):
        tiny, unbroken = make_trainer(optimizer=optimizer, warm_up=3, fall=0.5)
        train(unbroken, make_course(tiny, ALL).stream(0))
        tiny, first = make_trainer(optimizer=optimizer, warm_up=3, fall=0.5)
        for _ in islice(first.run(make_course(tiny, ALL).stream(0)), 3):
            pass
        keeping.save(tmp_path / optimizer, first, {"--seed": 0})
        tiny, second = make_trainer(optimizer=optimizer, warm_up=3, fall=0.5)
        keeping.restore(tmp_path / optimizer, second, {"--seed": 0})
        assert len(second.records) == 3
        train(second, make_course(tiny, ALL).stream(3))
        assert same(weights(unbroken), weights(second))
        assert unbroken.records == second.records


def test_a_run_is_resumed_only_as_the_one_it_was(tmp_path):
    tiny, trainer = make_trainer(steps=1)
    with pytest.raises(OutputError, match="holds no run to resume"):
        keeping.restore(tmp_path, trainer, {})
    train(trainer, course(tiny, ALL))
    keeping.save(tmp_path, trainer, {"--rate": 0.1, "--batch": 4})
    with pytest.raises(UsageError, match=r"--rate: the run in .* had 0\.1, not 0\.2"):
        keeping.restore(tmp_path, trainer, {"--rate": 0.2, "--batch": 4})
    (tmp_path / "training" / "state.pt").write_bytes(b"not a state")
    with pytest.raises(OutputError, match=r"state\.pt: is damaged"):
        keeping.restore(tmp_path, trainer, {})


@pytest.mark.parametrize("state", [[1], {"facts": 3}, {"facts": {}}, {"facts": {}, "trained": []}])
def test_another_file_in_place_of_a_state_is_named(state, tmp_path):
    _, trainer = make_trainer()
    (tmp_path / "training").mkdir()
    torch.save(state, tmp_path / "training" / "state.pt")
    with pytest.raises(OutputError, match=r"state\.pt: is damaged .*; begin anew with --force$"):
        keeping.restore(tmp_path, trainer, {})


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    _, trainer = make_trainer()

    def full(state, path):
        raise RuntimeError("unexpected pos 64 vs 0\nand a stack")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"training: cannot be written \(unexpected pos 64 vs 0"):
        keeping.save(tmp_path, trainer, {})


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    tiny, trainer = make_trainer()
    train(trainer, make_course(tiny, ALL).stream(0))
    keeping.save(tmp_path, trainer, {})
    before = (tmp_path / "training" / "state.pt").read_bytes()

    def broken(state, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        keeping.save(tmp_path, trainer, {})
    assert (tmp_path / "training" / "state.pt").read_bytes() == before
    names = {file.name for file in (tmp_path / "training").iterdir()}
    assert names == {"state.pt", "losses.jsonl", "losses.png"}


# Passes


def gradients(trainer: Trainer, material: Material, monkeypatch) -> dict[str, torch.Tensor]:
    """What the optimizer is given in a step."""
    given = {}

    def watched():
        given.update({n: p.grad.clone() for n, p in trainer.trained.items() if p.grad is not None})

    monkeypatch.setattr(trainer.optimizers[0], "step", watched)
    trainer.step(material.passes)
    return given


def test_accumulated_passes_make_the_gradients_of_one(monkeypatch):
    made = []
    for passes in (1, 2, 3):
        tiny, trainer = make_trainer()
        material = course(tiny, ALL, batch=8, passes=passes)[0]
        assert len(material.passes) == passes
        made.append((trainer, gradients(trainer, material, monkeypatch)))
    for trainer, given in made[1:]:
        assert trainer.records[0].words == pytest.approx(made[0][0].records[0].words, rel=1e-4)
        assert trainer.records[0].codes == pytest.approx(made[0][0].records[0].codes, rel=1e-4)
        for name, gradient in given.items():
            torch.testing.assert_close(gradient, made[0][1][name], rtol=1e-2, atol=1e-5)


def test_gradients_are_clipped(monkeypatch):
    tiny, trainer = make_trainer()
    given = gradients(trainer, course(tiny, ALL)[0], monkeypatch)
    norm = torch.cat([gradient.flatten() for gradient in given.values()]).norm()
    assert norm.item() == pytest.approx(CLIP, rel=1e-4)


def test_bf16_trains_weights_in_fp32():
    tiny, trainer = make_trainer(bf16=True)
    plain_tiny, plain = make_trainer()
    record = trainer.step(course(tiny, ALL)[0].passes)
    wanted = plain.step(course(plain_tiny, ALL)[0].passes)
    assert record.words != wanted.words
    assert record.words == pytest.approx(wanted.words, rel=0.03)
    assert record.codes == pytest.approx(wanted.codes, rel=0.03)
    assert {p.dtype for p in trainer.trained.values()} == {torch.float32}


# The end, and the rate on the way


def test_the_rate_warms_up_is_constant_and_falls():
    tiny, trainer = make_trainer(steps=20, warm_up=4, fall=0.5, rate=1e-3)
    train(trainer, make_course(tiny, Mixture(0, 1, 0), batch=1).stream(0))
    rates = [record.rate / 1e-3 for record in trainer.records]
    assert len(rates) == 20
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert rates[9:12] == pytest.approx([1, 1, 0.9])
    assert rates[-1] == pytest.approx(0.1)


def test_minutes_end_a_run():
    tiny, trainer = make_trainer(steps=None, minutes=1e-9)
    train(trainer, make_course(tiny, ALL).stream(0))
    assert len(trainer.records) == 1


def test_gradients_that_are_no_numbers_end_a_run_and_moves_nothing():
    tiny, trainer = make_trainer()
    with torch.no_grad():
        tiny.model.text_head.weight[0, 0] = math.inf
    before = weights(trainer)
    with pytest.raises(UsageError, match=r"--rate 0\.003: the gradients are no numbers"):
        train(trainer, make_course(tiny, ALL).stream(0))
    assert same(before, weights(trainer)) and trainer.whole


def test_a_signal_waits_for_the_end_of_the_step(monkeypatch):
    tiny, trainer = make_trainer()
    step = trainer.optimizers[0].step

    def interrupted():
        signal.raise_signal(signal.SIGINT)
        step()

    monkeypatch.setattr(trainer.optimizers[0], "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, make_course(tiny, ALL).stream(0))
    assert trainer.whole and len(trainer.records) == 1


# The stream


def flat(material: Material) -> list[torch.Tensor]:
    return [getattr(batch, f.name) for batch in material.passes for f in fields(batch)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_learns_from_the_same_whoever_makes_it_and_wherever_one_begins(workers):
    tiny = tiny_janus()
    alone = course(tiny, ALL, steps=6)
    others = islice(make_course(tiny, ALL).stream(2, workers=workers), 4)
    for one, two in zip(alone[2:], others, strict=True):
        pairs = zip(flat(one), flat(two), strict=True)
        assert all(torch.equal(left, right) for left, right in pairs)
    one, two = (sorted(material.passes[0].targets.unique().tolist()) for material in alone[:2])
    assert one != two


def test_a_tenth_of_the_captions_is_dropped():
    tiny = tiny_janus()
    material = course(tiny, Mixture(0, 0, 1), batch=300)[0]
    (batch,) = material.passes
    pads = (batch.ids == tiny.writer.pad) & (batch.weights == 0) & (batch.samples >= 0)
    dropped = {(row, int(batch.samples[row, place])) for row, place in pads.nonzero().tolist()}
    assert 0.5 * DROPPED_CAPTIONS < len(dropped) / 300 < 1.5 * DROPPED_CAPTIONS


class Broken(Numbered):
    """Every second lesson cannot be read; or none can."""

    def __init__(self, *, all_of_them: bool = False) -> None:
        super().__init__(10)
        self.all_of_them = all_of_them

    def lesson(self, kind: str, number: int) -> Lesson:
        if self.all_of_them or number % 2:
            raise InputError(f"lesson {number % 10}: is broken")
        return super().lesson(kind, number)


def test_what_cannot_be_read_is_named_and_the_next_is_taken():
    tiny = tiny_janus()
    material = course(tiny, Mixture(0, 1, 0), source=Broken(), batch=4)[0]
    assert set(material.complaints) == {f"lesson {n}: is broken; it is left out" for n in (1, 3)}
    assert (
        sum(len(set(row.tolist())) - (-1 in row) for b in material.passes for row in b.samples) == 4
    )


def test_nothing_to_learn_from_ends_a_run():
    tiny, trainer = make_trainer()
    broken = make_course(tiny, ALL, source=Broken(all_of_them=True))
    with pytest.raises(InputError, match=r"is broken.*so is everything else"):
        train(trainer, broken.stream(0))
