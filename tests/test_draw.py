"""Drawing: a picture depends on its own seed, and on nothing that is drawn beside it."""

import pytest
import torch

from janus_cli import imagine
from janus_cli.engine import decode
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.load import open_engine
from janus_cli.engine.tile import LARGEST_TILE, smallest_tile
from janus_cli.errors import UsageError
from janus_cli.schema import Failure, ImagineRequest, ModelChoice, Picture, Progress, Wish
from tests.checkpoints import save_tiny_checkpoint


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def engine(request, tmp_path_factory):
    path = save_tiny_checkpoint(tmp_path_factory.mktemp("model"))
    return open_engine(path, ModelChoice(device="cpu", precision=request.param))


def draw(engine, *prompts: str, **options) -> list[Picture]:
    wishes = tuple(Wish(prompt, **options) for prompt in prompts or ["a red circle"])
    return pictures(engine, *wishes)


def pictures(engine, *wishes: Wish) -> list[Picture]:
    events = imagine.run(ImagineRequest(wishes), engine)
    return [event for event in events if isinstance(event, Picture)]


def test_pictures_are_drawn_together_as_far_as_memory_goes(engine, monkeypatch):
    labels = set()

    def drawn_with(free):
        monkeypatch.setattr(decode, "free_memory", lambda device: free)
        request = ImagineRequest((Wish("a red circle", count=4, seed=7),))
        events = list(imagine.run(request, engine))
        labels.update(event.label for event in events if isinstance(event, Progress))
        return [event.pixels for event in events if isinstance(event, Picture)]

    assert drawn_with(10**12) == drawn_with(1)
    assert labels == {"pictures 1 to 4 of 4", *(f"picture {n} of 4" for n in (1, 2, 3, 4))}


def test_picture_i_is_drawn_with_seed_plus_i(engine, monkeypatch):
    monkeypatch.setattr(decode, "PICTURES", 3)  # four pictures: a full batch and a lone one
    together = draw(engine, count=4, seed=7)
    alone = [draw(engine, count=1, seed=seed)[0] for seed in (7, 8, 9, 10)]
    assert [p.seed for p in together] == [7, 8, 9, 10]
    assert [p.pixels for p in together] == [p.pixels for p in alone]
    assert len({p.pixels for p in together}) == 4


def test_a_picture_does_not_depend_on_the_prompts_before_it(engine):
    both = draw(engine, "two", "a red circle on white", count=2)
    alone = draw(engine, "a red circle on white", count=2)
    assert [p.pixels for p in both[2:]] == [p.pixels for p in alone]
    assert [(p.index, p.prompt, p.seed) for p in both] == [
        (0, "two", 0),
        (0, "two", 1),
        (1, "a red circle on white", 0),
        (1, "a red circle on white", 1),
    ]


def test_pictures_of_several_prompts_are_drawn_together(engine):
    request = ImagineRequest((Wish("two", count=2), Wish("a red circle on white", count=2)))
    labels = {e.label for e in imagine.run(request, engine) if isinstance(e, Progress)}
    assert labels == {"pictures 1 to 4 of 4"}


@pytest.mark.parametrize(
    "options",
    [
        {"guidance": 1.0},
        {"temperature": 0.3},
        {"top_k": 2},
        {"top_p": 0.3},
        {"negative": "two"},
        {"seed": 1},
        {"prompt": "how many"},
    ],
)
def test_every_setting_changes_the_picture(engine, options):
    changed = Wish(**{"prompt": "a red circle", **options})
    assert pictures(engine, changed)[0].pixels != draw(engine)[0].pixels


def test_greedy_drawing_does_not_depend_on_the_seed(engine):
    first, second = (draw(engine, temperature=0, seed=seed)[0] for seed in (1, 2))
    assert first.pixels == second.pixels


def test_guidance_of_one_ignores_the_negative_prompt(engine):
    plain = draw(engine, guidance=1.0)[0]
    assert draw(engine, guidance=1.0, negative="two")[0].pixels == plain.pixels


def test_the_unconditional_row_keeps_only_both_ends(engine):
    ids = engine.writer.drawing("a red circle")
    other = engine.writer.unconditional(ids)
    assert other[0] == ids[0] == engine.writer.begin_of_sentence
    assert other[-1] == ids[-1] == engine.writer.begin_of_image
    assert set(other[1:-1]) == {engine.writer.pad}
    assert len(other) == len(ids)


def test_a_step_yields_one_code_for_every_picture(engine):
    ids = engine.writer.drawing("two")
    drawings = [Drawing(ids, engine.writer.unconditional(ids), seed) for seed in (1, 2, 3)]
    columns = list(engine.draw(drawings, Sampling()))
    assert len(columns) == engine.image_tokens
    assert all(column.shape == (3,) for column in columns)


def test_a_prompt_past_the_context_is_refused(engine):
    with pytest.raises(UsageError, match=r"PROMPT: takes .* shorten"):
        draw(engine, "circle " * 600)
    with pytest.raises(UsageError, match="--negative: takes"):
        draw(engine, negative="circle " * 600)


LONG = "circle " * 600
WISHES = (
    Wish("two", count=2, seed=1, guidance=3.0),
    Wish("a red circle", seed=4),
    Wish("two", seed=9, guidance=3.0, negative="white"),
    Wish("how many", seed=2, temperature=0.5, top_k=9, top_p=0.9),
    Wish("a red circle", count=2, seed=5),
)


def watch(engine, monkeypatch, *, most: int = 99) -> list[int]:
    """The sizes of the batches that are drawn from now on; more than `most` are out of memory."""
    sizes, real = [], engine.draw

    def watched(drawings, sampling):
        sizes.append(len(drawings))
        columns = real(drawings, sampling)
        yield next(columns)
        if len(drawings) > most:
            raise torch.OutOfMemoryError
        yield from columns

    monkeypatch.setattr(engine, "draw", watched)
    return sizes


def test_pictures_of_different_settings_are_those_drawn_alone(engine, monkeypatch):
    sizes = watch(engine, monkeypatch)
    together = pictures(engine, *WISHES)
    assert sorted(sizes) == [1, 3, 3]  # those of equal sampling at once, wherever they stand
    alone = [picture for wish in WISHES for picture in pictures(engine, wish)]
    assert [p.pixels for p in together] == [p.pixels for p in alone]
    assert [(p.index, p.seed) for p in together] == [
        *((0, 1), (0, 2), (1, 4), (2, 9), (3, 2), (4, 5), (4, 6))
    ]
    assert [(p.guidance, p.top_k, p.negative) for p in together[3:5]] == [
        (3.0, 0, "white"),
        (5.0, 9, None),
    ]


def test_pictures_that_are_drawn_are_left_out(engine, monkeypatch):
    wishes = (Wish("two", count=4, drawn=(0, 2)), Wish("a", drawn=(0,)), Wish("how many"))
    sizes = watch(engine, monkeypatch)
    events = list(imagine.run(ImagineRequest(wishes), engine))
    left = [event for event in events if isinstance(event, Picture)]
    assert [(p.index, p.seed) for p in left] == [(0, 1), (0, 3), (2, 0)]
    assert {e.label for e in events if isinstance(e, Progress)} == {"pictures 1 to 3 of 3"}
    assert sizes == [3]
    assert left[1].pixels == draw(engine, "two", seed=3)[0].pixels


def test_a_wish_that_cannot_be_drawn_does_not_hold_up_the_others(engine):
    wishes = (Wish("two"), Wish(LONG), Wish("two", negative=LONG), Wish("how many"))
    events = imagine.run(ImagineRequest(wishes), engine)
    told = [event for event in events if not isinstance(event, Progress)]
    assert [type(event) for event in told] == [Picture, Failure, Failure, Picture]
    assert [event.index for event in told] == [0, 1, 2, 3]
    assert told[1].input == LONG and told[1].error_type == "UsageError"
    assert told[1].error.startswith("PROMPT: takes ")
    assert told[2].error.startswith("--negative: takes ")


def test_fewer_are_drawn_at_once_where_memory_runs_out(engine, monkeypatch):
    wishes = (Wish("two", count=5, seed=1), Wish("how many", count=4))
    expected = pictures(engine, *wishes)
    monkeypatch.setattr(decode, "PICTURES", 6)
    sizes = watch(engine, monkeypatch, most=2)
    assert [p.pixels for p in pictures(engine, *wishes)] == [p.pixels for p in expected]
    assert sizes == [6, 3, 1, *[1] * 8]  # the smaller number stays


def test_a_picture_that_does_not_fit_alone_is_an_error(engine, monkeypatch):
    sizes = watch(engine, monkeypatch, most=0)
    with pytest.raises(torch.OutOfMemoryError):
        draw(engine, count=4)
    assert sizes == [4, 2, 1]


def test_another_error_is_no_lack_of_memory(engine, monkeypatch):
    def broken(drawings, sampling):
        raise RuntimeError("something else")

    monkeypatch.setattr(engine, "draw", broken)
    with pytest.raises(RuntimeError, match="something else"):
        draw(engine, count=2)


def test_progress_is_that_of_the_whole_run(engine, monkeypatch):
    monkeypatch.setattr(decode, "PICTURES", 2)
    wishes = (Wish("two", count=3), Wish("how many", guidance=1.0))
    events = imagine.run(ImagineRequest(wishes), engine)
    told = [event for event in events if isinstance(event, Progress)]
    done = [event.done for event in told]
    assert done == sorted(done) and done[0] == 0
    assert done[-1] == told[-1].total == 4 * engine.image_tokens
    assert {event.total for event in told} == {4 * engine.image_tokens}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_multiples_of_a_tile_treat_rows_alike(dtype):
    linear = torch.nn.Linear(64, 96, bias=False, dtype=dtype)
    tile = smallest_tile(linear, dtype, torch.device("cpu"))
    rows = torch.randn(LARGEST_TILE, 64).to(dtype)
    whole = linear(rows)
    for first in range(0, len(rows), tile):
        assert torch.equal(linear(rows[first : first + tile]), whole[first : first + tile])
