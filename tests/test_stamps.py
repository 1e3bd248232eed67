"""Drawings are put together from the codes of their things, and a stranger sees what they are."""

import numpy as np
import pytest
import torch

from janus_cli.engine.pixels import Preprocessing
from janus_cli.engine.vq import to_bytes
from janus_cli.train.pupil import open_pupil
from janus_cli.train.stamps import Stamps, cell_codes
from janus_cli.train.world.checker import look, matches
from janus_cli.train.world.scene import BACKGROUNDS, Scene, sample_contrast, sample_drawing, stand
from janus_cli.train.world.source import World
from janus_cli.weights import EMBEDDED, find_model


@pytest.fixture(scope="module")
def stamps() -> Stamps:
    found = Stamps.find(find_model(EMBEDDED))
    assert found
    return found


@torch.no_grad()
def test_what_is_put_together_is_read_back(stamps):
    vq = open_pupil(find_model(EMBEDDED), torch.device("cpu")).model.vq
    scenes = [sample_drawing(seed) for seed in range(24)]
    codes = torch.from_numpy(np.stack([stamps.codes(scene) for scene in scenes]))
    for scene, picture in zip(scenes, to_bytes(vq.decode(codes.view(-1, 24, 24))), strict=True):
        seen = look(picture.numpy())
        assert matches(scene, seen)
        assert seen.background == scene.background


def test_a_thing_has_the_same_codes_in_every_cell(stamps):
    for background in BACKGROUNDS:
        boards = [
            (cell, stamps.codes(Scene(background, (stand(("red", "star"), cell),), (), 0)))
            for cell in ((0, 0), (2, 1), (1, 2))
        ]
        cut = [cell_codes(board.reshape(24, 24), cell) for cell, board in boards]
        assert all(np.array_equal(cut[0], other) for other in cut)


@pytest.mark.parametrize("sample", [sample_drawing, sample_contrast])
def test_a_few_codes_tell_all_of_a_drawing(stamps, sample):
    """Whoever has seen only those knows what is where, so they are enough to learn from."""
    scenes, telling = [sample(seed) for seed in range(500)], stamps.telling()
    assert len(telling) * 2 < len(stamps.codes(scenes[0]))
    told: dict[bytes, set] = {}
    for scene in scenes:
        seen = stamps.codes(scene)[telling].tobytes()
        told.setdefault(seen, set()).add((scene.background, scene.things))
    assert all(len(meant) == 1 for meant in told.values())


def test_things_in_contrast_share_neither_color_nor_kind():
    things = [sample_contrast(seed).things for seed in range(200)]
    assert {len(some) for some in things} == {2, 3}
    for part in ("color", "kind"):
        assert all(len({getattr(thing, part) for thing in some}) == len(some) for some in things)


def test_the_world_teaches_some_drawings_in_brief_and_others_whole(stamps):
    world = World(Preprocessing(384), seed=0, stamps=stamps)
    lessons = [world.lesson("generation", number) for number in range(60)]
    assert {lesson.learned is None for lesson in lessons} == {True, False}
    for number, lesson in enumerate(lessons):
        assert np.array_equal(lesson.picture, stamps.codes(world.scene("generation", number)))
        assert lesson.learned in (None, stamps.telling())
    plain = World(Preprocessing(384), seed=0)  # whoever has no stamps learns from pictures, whole
    assert all(plain.lesson("generation", number).learned is None for number in range(8))


def test_they_are_found_where_they_were_saved(stamps, tmp_path):
    assert Stamps.find(tmp_path) is None
    stamps.save(tmp_path)
    found = Stamps.find(tmp_path)
    assert found and np.array_equal(found.codes(sample_drawing(3)), stamps.codes(sample_drawing(3)))
