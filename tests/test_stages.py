"""The stages of the papers: which parameters move in which, and on what mixture of data."""

from __future__ import annotations

import pytest
import torch

from janus_cli.train import recipe
from janus_cli.train.lessons import KINDS
from janus_cli.train.loop import Settings, Trainer
from janus_cli.train.mixture import Mixture
from janus_cli.train.stages import STAGES
from tests.lessons import course
from tests.tiny_janus import tiny_janus

ADAPTORS = {"aligner", "generation_embed", "generation_aligner", "generation_head"}
MOVED = {
    "words": {"language", "text_head"},
    "1": ADAPTORS,
    "2": ADAPTORS | {"language", "text_head"},
    "3": ADAPTORS | {"language", "text_head", "vision"},
}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("name", MOVED)
def test_a_stage_moves_its_own_parts_and_no_others(name, optimizer):
    tiny, stage = tiny_janus(), STAGES[name]
    stage.mark(tiny.model)
    before = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
    settings = Settings(rate=1e-2, steps=1, optimizer=optimizer)
    trainer = Trainer(tiny.model, tiny.preprocessing, settings)
    trainer.step(course(tiny, stage.mixture, batch=20, masked=stage.masked)[0].passes)
    moved = {
        n.partition(".")[0] for n, p in tiny.model.named_parameters() if (p != before[n]).any()
    }
    assert moved == MOVED[name]
    still = [n for n, p in tiny.model.named_parameters() if torch.equal(p, before[n])]
    assert all(n.partition(".")[0] not in moved for n in still)


def test_the_numbers_are_those_of_the_papers():
    """Table 2 of arXiv 2501.17811; only the third stage masks prompts (arXiv 2410.13848, 3.2)."""
    table = {
        name: (str(stage.mixture), stage.rate, stage.warm_up, stage.weight_decay, stage.masked)
        for name, stage in STAGES.items()
    }
    assert table["1"] == ("1:0:3", 1e-3, 600, 0.0, False)
    assert table["2"] == ("2:3:5", 1e-4, 5000, 0.0, False)
    assert table["3"] == ("5:1:4", 4e-5, 0, 0.0, True)


def test_muon_may_have_all_or_nothing():
    class Part(torch.nn.Module):
        def __init__(self, **parts):
            super().__init__()
            self.layers = torch.nn.ModuleDict(parts)

    matrix, vector = torch.nn.Linear(2, 2, bias=False), torch.nn.LayerNorm(2)
    for parts, kinds in (({"a": matrix}, ["Muon"]), ({"a": vector}, ["AdamW"])):
        made = recipe.optimizers(Part(**parts), rate=0.1)
        assert [type(optimizer).__name__ for optimizer in made] == kinds


# Mixtures


@pytest.mark.parametrize("text", ["5:1:4", "7:3:10", "1:0:3", "0:1:0"])
def test_a_mixture_holds_each_kind_as_often_as_it_says(text):
    mixture = Mixture.parse(text)
    assert str(mixture) == text
    drawn = [mixture.nth(index, seed=3) for index in range(5 * mixture.total)]
    for kind, part in zip(KINDS, text.split(":"), strict=True):
        numbers = [number for k, number in drawn if k == kind]
        assert numbers == list(range(5 * int(part)))


def test_the_order_of_a_mixture_is_shuffled_by_the_seed():
    orders = [[Mixture(5, 1, 4).nth(i, seed)[0] for i in range(40)] for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert orders[0][:10] != orders[0][10:20]


@pytest.mark.parametrize("text", ["", "5:1", "5:1:4:2", "0:0:0", "-1:1:1", "a:b:c", "1.5:1:1"])
def test_what_is_no_mixture_is_refused(text):
    with pytest.raises((ValueError, TypeError)):
        Mixture.parse(text)
