"""Names of pictures: decided by the orders alone, and none of them twice."""

from __future__ import annotations

import pytest

from janus_cli import names
from janus_cli.errors import UsageError
from janus_cli.prompts import Order
from janus_cli.schema import Wish


def order(prompt: str = "a b", output: str | None = None, stem: str | None = None, **fields):
    return Order(Wish(prompt, **{"seed": 7, **fields}), stem, output, "--prompts jobs, line 3")


def plan(*orders: Order, output: str | None = None, grid: bool = False) -> list[str]:
    return names.plan(orders, output, grid=grid, force=False).every()


def test_prompts_of_a_list_are_named_like_others():
    assert plan(order("a"), order("b", count=2)) == ["a-7.png", "b-7.png", "b-8.png"]


def test_where_the_usual_names_are_too_few_the_number_of_the_prompt_comes_first():
    assert plan(order("a"), order("b"), order("a")) == ["0-a-7.png", "1-b-7.png", "2-a-7.png"]
    assert plan(order("星"), order("雲"), output="out/")[0] == "out/0-picture-7.png"
    assert plan(order("a", count=2), order("a", seed=8))[1] == "0-a-8.png"
    many = plan(*[order("a")] * 11)
    assert many == sorted(many)
    assert (many[0], many[10]) == ("00-a-7.png", "10-a-7.png")


def test_a_name_of_its_own_does_not_number_the_others():
    assert plan(order("a"), order("a", "mine.png")) == ["a-7.png", "mine.png"]


def test_a_pattern_of_the_user_is_never_numbered():
    with pytest.raises(UsageError, match=r"^--output: two pictures would be named same/a\.png"):
        plan(order("a"), order("a"), output="same/{slug}.png")


@pytest.mark.parametrize(("stem", "expected"), [("jobs.v2", "jobs.v2-7.png"), (None, "a-b-7.png")])
def test_the_stem_is_that_of_the_list(stem, expected):
    assert plan(order(stem=stem), output="{stem}-{seed}.png") == [expected]
    assert plan(order("{x}", stem="{seed}"), output="{stem}.png") == ["{seed}.png"]


@pytest.mark.parametrize(
    ("own", "output", "expected"),
    [
        ("x.png", None, "x.png"),
        ("x", None, "x.png"),
        ("x.PNG", "out", "out/x.PNG"),
        ("cats/{slug}-{i}.png", "out/", "out/cats/a-b-0.png"),
        ("{index}-{stem}-{seed:04}", "out/{slug}.png", "out/0-jobs-0007.png"),
        ("x", "{stem}/{i}.png", "jobs/x.png"),
        ("x", "../up/", "../up/x.png"),
        ("x", "{{odd}}/{slug}.png", "{odd}/x.png"),
    ],
)
def test_a_name_of_its_own_lies_in_the_folder_of_the_output(own, output, expected):
    assert plan(order(output=own, stem="jobs"), output=output) == [expected]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("/tmp/x.png", "leads out"),
        ("../x.png", "leads out"),
        ("a/../../x.png", "leads out"),
        ("a\\..\\x.png", "leads out"),
        (".{slug:.0}./x.png", "leads out"),
        ("x.jpg", "PNG"),
        ("x.{seed}", "PNG"),
        ("", "PNG"),
        ("a/", "PNG"),
        ("{nonsense}", "unknown"),
        ("{slug.__class__}", "unknown"),
        ("{", "no file pattern"),
        ("a\0b", "null byte"),
    ],
)
def test_a_bad_name_of_its_own_is_refused_with_its_line(own, words):
    with pytest.raises(UsageError, match=f"^--prompts jobs, line 3: output: .*{words}"):
        plan(order(output=own))


@pytest.mark.parametrize(
    "orders",
    [
        (order(output="x.png", count=2),),
        (order(), order(output="a-b-7.png")),
        (order(output="x"), order(output="./x.png")),
    ],
)
def test_doubles_of_names_of_their_own_are_refused_with_advice(orders):
    with pytest.raises(UsageError, match=r"line 3: output: two pictures .* {seed}, {i} or"):
        plan(*orders)


def test_a_contact_sheet_lies_beside_its_first_picture():
    targets = plan(order("a"), order("a"), order(output="x/{i}.png", count=2), grid=True)
    assert targets[4:] == ["0-a-7-grid.png", "1-a-7-grid.png", "x/0-grid.png"]
