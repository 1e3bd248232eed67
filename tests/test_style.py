"""Evaluation looks unlike training, and everything in it still is what it is called."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from janus_cli.train.world import style
from janus_cli.train.world.checker import look, matches
from janus_cli.train.world.render import PALETTE, render
from janus_cli.train.world.scene import COLORS, Scene, Text, Thing, sample_scene
from janus_cli.train.world.style import (
    EVALUATION,
    FONT_FILES,
    TRAINING,
    UNSEEN,
    UNSEEN_FONT_FILES,
    fonts,
    unseen_fonts,
)

SCENES = [sample_scene(seed, text_share=0) for seed in range(5)]


def nearest(color: np.ndarray) -> str:
    return min(PALETTE, key=lambda name: float(np.sum((color - np.array(PALETTE[name])) ** 2)))


def color_of(seed: int, color: str, how: style.Style) -> np.ndarray:
    thing = Thing("square", color, 190, 190, 80, 0.0)
    return render(Scene("black", (thing,), (), seed), how)[190, 190].astype(int)


@pytest.mark.parametrize("color", COLORS)
def test_colors_go_further_than_in_training_and_stay_themselves(color):
    shown = {
        how: np.array([color_of(seed, color, how) for seed in range(40)])
        for how in (TRAINING, EVALUATION)
    }
    assert {nearest(found) for found in shown[EVALUATION]} == {color}
    off = {how: np.abs(found - PALETTE[color]).max() for how, found in shown.items()}
    assert off[TRAINING] <= TRAINING.color < off[EVALUATION] <= EVALUATION.color


def test_no_color_can_reach_another():
    """Not even where every channel has its most."""
    reach = EVALUATION.color * 3**0.5
    for one in COLORS:
        for other in PALETTE:
            if one != other:
                assert np.linalg.norm(np.subtract(PALETTE[one], PALETTE[other])) > 2 * reach


def test_scenes_look_otherwise_and_hold_the_same():
    for scene in SCENES:
        picture = render(scene, EVALUATION)
        assert np.array_equal(picture, render(scene, EVALUATION))
        assert not np.array_equal(picture, render(scene))
        seen = look(picture)
        assert matches(scene, seen)
        assert seen.background == scene.background


def test_things_tilt_and_shrink_within_their_boxes():
    thing = Thing("square", "red", 190, 190, 100, 0.0)
    wide = []
    for seed in range(30):
        scene = Scene("white", (thing,), (), seed)
        changed = np.argwhere(render(scene, EVALUATION)[..., 1] < 128)
        left, right = changed[:, 1].min(), changed[:, 1].max() + 1
        assert left >= thing.box[0] - 1 and right <= thing.box[2] + 1
        wide.append(right - left)
    assert min(wide) >= EVALUATION.smallest * thing.size - 2
    assert min(wide) < 0.93 * thing.size
    assert max(wide) > 0.95 * thing.size


def test_training_has_none_of_the_unseen_fonts():
    assert not set(FONT_FILES) & set(UNSEEN_FONT_FILES)
    assert fonts()[0] is None  # Pillow's own, which every machine has, is training's
    names = {Path(file).name for file in fonts()[1:]}
    assert names <= set(FONT_FILES)
    assert not names & {Path(file).name for file in unseen_fonts()}


def test_fonts_of_packages_are_training_fonts():
    lato = pytest.importorskip("font_lato", reason="comes with the extra `train`")
    assert lato.font_files["Lato"] in fonts()


def test_unseen_fonts_are_drawn_with():
    if not unseen_fonts():
        pytest.skip("no font that training never loads is installed")
    scene = Scene("white", (), (Text("WQ8M", "blue", 190, 150, 50, 0),), 7)
    plain = replace(UNSEEN, unseen_fonts=False)
    assert plain == EVALUATION
    shown = {
        render(replace(scene, texts=(replace(scene.texts[0], font=slot),)), UNSEEN).tobytes()
        for slot in range(len(unseen_fonts()))
    }
    assert len(shown) == len(unseen_fonts())
    known = {
        render(replace(scene, texts=(replace(scene.texts[0], font=slot),)), plain).tobytes()
        for slot in range(len(fonts()))
    }
    assert not shown & known
