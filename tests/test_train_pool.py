"""Pictures that are encoded once teach what the pictures themselves teach."""

import random

import pytest
import torch

from janus_cli import weights
from janus_cli.train.codes import codes_of_drawings
from janus_cli.train.losses import loss_sums
from janus_cli.train.packing import collate
from janus_cli.train.pool import Pool, write_pool
from janus_cli.train.pupil import open_pupil
from janus_cli.train.request import TrainRequest
from janus_cli.train.run import open_run
from janus_cli.train.sequences import Scribe
from janus_cli.train.world.source import World, ask, order

COUNTS = {"understanding": 3, "generation": 2}


@pytest.fixture(scope="module")
def pupil():
    return open_pupil(weights.find_model("embedded"), torch.device("cpu"))


@pytest.fixture(scope="module")
def pool(pupil, tmp_path_factory) -> Pool:
    world = World(pupil.preprocessing, seed=4)
    folder = tmp_path_factory.mktemp("pool") / "pool"
    write_pool(pupil, world, folder, COUNTS)
    return Pool(world, folder)


@pytest.mark.parametrize("kind", COUNTS)
def test_encoded_pictures_cost_what_the_pictures_cost(pupil, pool, kind):
    scribe = Scribe(pupil.writer, pupil.model.config.image_tokens, length=800, masked=True)
    encode = codes_of_drawings(pupil.model.vq)
    number = COUNTS[kind] - 1
    lesson = pool.lesson(kind, number)
    make = ask if kind == "understanding" else order
    rng = random.Random(f"{kind} 4 {number}")
    same = make(pool.world.scene(kind, number), rng, pool.world.picture(kind, number))
    assert (lesson.pairs, lesson.caption) == (same.pairs, same.caption)
    with torch.no_grad():
        ours, plain = (
            torch.stack(
                loss_sums(pupil.model, collate([[scribe.write(one)]]), pupil.preprocessing, encode)
            )
            for one in (lesson, same)
        )
    assert plain.sum() > 0
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)  # features are in half


def test_each_time_around_other_things_are_asked(pool):
    first, again = (pool.lesson("understanding", number) for number in (0, 3))
    assert first.name == again.name
    assert (first.picture == again.picture).all()
    assert first.pairs != again.pairs


def test_a_run_on_a_pool_trains_all_but_the_encoders(pupil, pool, tmp_path):
    request = TrainRequest(
        (),
        str(tmp_path / "model"),
        "embedded",
        mixture="2:0:1",
        batch=3,
        steps=1,
        seed=4,
        workers=0,
    )
    run, _ = open_run(request, pool.folder)
    (record,) = [record for record, _ in run.go()]
    assert record.words and record.codes
    before = dict(pupil.model.named_parameters())
    moved = {
        name.partition(".")[0]
        for name, parameter in run.pupil.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert {"language", "text_head", "aligner", "generation_head"} <= moved
    assert not moved & {"vision", "vq"}
