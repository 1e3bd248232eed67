"""Orders of GenEval's categories: a picture that fills one is right, and every other is not."""

import random
from dataclasses import replace

import numpy as np
import pytest

from janus_cli.engine.decode import Sampling
from janus_cli.train.evaluate.drawings import (
    CATEGORIES,
    PAIRED,
    draw_orders,
    judge,
    sample_order,
    stands,
)
from janus_cli.train.world.captions import SIDES, caption, side_of
from janus_cli.train.world.checker import Seen, SeenThing, look
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import KINDS, Scene, Thing, groups, sample_scene
from janus_cli.train.world.style import EVALUATION
from tests.scripted_model import ScriptedModel

ORDERS = [sample_order(number) for number in range(60)]
SPOTS = ((100, 100), (290, 280), (100, 280), (290, 100), (195, 190))
PLACES = {side: ((190 + 100 * x, 190 + 100 * y), (190, 190)) for side, (x, y) in SIDES.items()}


def placed(order, scene=None, side=None) -> Scene:
    """The scene of an order, or another one, with places for its things."""
    scene = scene or order.scene
    side = side or order.side
    spots = PLACES[side] if side else SPOTS
    things = [
        replace(thing, x=x, y=y, size=72)
        for thing, (x, y) in zip(scene.things, spots, strict=False)
    ]
    return replace(scene, things=tuple(things))


def filled(order, scene: Scene) -> bool:
    return order.filled_by(look(render(scene, EVALUATION)))


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_was_ordered_is_accepted_and_nothing_else(category):
    for order in [order for order in ORDERS if order.category == category][:1]:
        scene = order.scene
        first, *rest = scene.things
        other = next(kind for kind in KINDS if kind not in {t.kind for t in scene.things})
        assert filled(order, placed(order))
        reshaped = replace(scene, things=(replace(first, kind=other, color="red"), *rest))
        assert not filled(order, placed(order, reshaped))
        if order.side:
            for side in SIDES:
                assert filled(order, placed(order, side=side)) == (side == order.side)
            continue
        assert not filled(order, placed(order, replace(scene, things=(*scene.things, first))))
        if rest:
            assert not filled(order, placed(order, replace(scene, things=tuple(rest))))
        if category == "colors":
            blue = "blue" if first.color != "blue" else "red"
            wrong = replace(scene, things=(replace(first, color=blue),))
            assert not filled(order, placed(order, wrong))
        if category == "color attribution":
            (second,) = rest
            swapped = replace(first, color=second.color), replace(second, color=first.color)
            assert not filled(order, placed(order, replace(scene, things=swapped)))


def test_orders_ask_for_what_their_category_is_about():
    for order in ORDERS:
        found = groups(order.scene)
        assert len(found) == (2 if order.category in PAIRED else 1)
        assert (found[0][0] > 1) == (order.category == "counting")
        assert len({kind for _, _, kind in found}) == len(found)
        assert order.prompt.endswith(f" on a {order.scene.background} background")
        assert bool(order.side) == (order.category == "position")
        assert not order.side or f" {order.side} " in order.prompt
    assert [order.category for order in ORDERS[:6]] == list(CATEGORIES)
    assert {order.side for order in ORDERS} == {None, *SIDES}


def test_who_stands_where():
    def thing(x: int, y: int) -> SeenThing:
        return SeenThing("star", "red", x, y, 60, 1.0)

    middle = thing(190, 190)
    assert stands(thing(80, 190), middle, "left")
    assert stands(middle, thing(80, 190), "right")
    assert stands(thing(190, 80), middle, "above")
    assert not any(stands(thing(180, 186), middle, side) for side in SIDES)  # on top of each other
    corner = [side for side in SIDES if stands(thing(80, 80), middle, side)]
    assert corner == ["left", "above"]
    assert [side for side in SIDES if stands(thing(80, 150), middle, side)] == ["left"]


def test_captions_tell_sides_that_the_judge_sees():
    told = set()
    for seed in range(400):
        scene = sample_scene(seed, text_share=0)
        words = caption(scene, random.Random(seed))
        found = [side for side in SIDES if f" {side} " in words]
        assert len(found) <= 1
        if not found:
            continue
        told.add(found[0])
        before, after = words.split(f" {found[0]} ")
        ones = [t for t in scene.things if t.kind in before and (t.color or "") in before]
        others = [t for t in scene.things if t not in ones]
        assert ones and all(t.kind in after for t in others)
        assert side_of(ones, others) == found[0]
        for one in ones:
            for other in others:
                seen = [SeenThing(t.kind, t.color, t.x, t.y, t.size, 1.0) for t in (one, other)]
                assert stands(*seen, found[0])
    assert told == set(SIDES)


def test_nobody_is_on_a_side_where_one_could_argue():
    star = Thing("star", "red", 190, 190, 60, 0.0)
    near, slanted = replace(star, x=215, y=190), replace(star, x=290, y=285)
    assert side_of([star], [near]) is None
    assert side_of([star], [slanted]) is None
    assert side_of([star], [replace(star, x=290), replace(star, x=90)]) is None
    assert side_of([star], [replace(star, x=290), replace(star, x=280, y=230)]) == "left"


def test_all_orders_are_drawn_whatever_the_batch():
    scenes = {order.prompt: placed(order) for order in ORDERS}
    seeds = []

    def draw(prompt: str, seed: int, guidance: float) -> np.ndarray:
        seeds.append(seed)
        scene = scenes[prompt] if guidance > 1 else Scene("white", (), (), 1)
        return render(scene)

    engine = ScriptedModel(draw=draw)
    guided = judge(list(draw_orders(engine, 7, Sampling(guidance=5), 3)))
    assert engine.batches == [3, 3, 1]
    assert seeds == list(range(7))
    assert {row.value for row in guided} == {1.0}
    assert [row.cases for row in guided] == [2, 1, 1, 1, 1, 1, 7, 7]
    plain = {row.measure: row for row in judge(list(draw_orders(engine, 5, Sampling(guidance=1))))}
    assert engine.batches[3:] == [4, 1]
    assert plain["drawn: overall"].value == 0


def test_what_is_unclear_fills_no_order():
    order = next(order for order in ORDERS if order.category == "position")
    assert not order.filled_by(Seen("white", ()))
