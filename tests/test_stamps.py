"""Drawings are put together from the codes of their things, and a stranger sees what they are."""

import numpy as np
import pytest
import torch

from janus_cli.engine.vq import to_bytes
from janus_cli.train.pupil import open_pupil
from janus_cli.train.stamps import Stamps, cell_codes
from janus_cli.train.world.checker import look, matches
from janus_cli.train.world.scene import BACKGROUNDS, Scene, sample_drawing, sample_row, stand
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


def test_the_beginning_of_a_row_tells_all_of_it(stamps):
    """Whoever has seen only that can say which thing is where, so it is enough to learn from."""
    rows = [sample_row(seed) for seed in range(400)]
    told: dict[bytes, set] = {}
    for row in rows:
        beginning, codes = stamps.beginning(row), stamps.codes(row)
        assert len(beginning) < len(codes)
        assert np.array_equal(beginning, codes[: len(beginning)])
        told.setdefault(beginning.tobytes(), set()).add((row.background, row.things))
    assert all(len(scenes) == 1 for scenes in told.values())
    assert {len(row.things) for row in rows} == {2, 3}
    for part in ("color", "kind"):
        assert all(len({getattr(t, part) for t in r.things}) == len(r.things) for r in rows)


def test_they_are_found_where_they_were_saved(stamps, tmp_path):
    assert Stamps.find(tmp_path) is None
    stamps.save(tmp_path)
    found = Stamps.find(tmp_path)
    assert found and np.array_equal(found.codes(sample_drawing(3)), stamps.codes(sample_drawing(3)))
