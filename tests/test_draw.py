"""Drawing: a picture depends on its own seed, and on nothing that is drawn beside it."""

import pytest
import torch

from janus_cli import imagine
from janus_cli.engine import decode
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.load import open_engine
from janus_cli.engine.tile import LARGEST_TILE, smallest_tile
from janus_cli.errors import UsageError
from janus_cli.schema import ImagineRequest, ModelChoice, Picture, Progress
from tests.checkpoints import save_tiny_checkpoint


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def engine(request, tmp_path_factory):
    path = save_tiny_checkpoint(tmp_path_factory.mktemp("model"))
    return open_engine(path, ModelChoice(device="cpu", precision=request.param))


def draw(engine, **options) -> list[Picture]:
    request = ImagineRequest(**{"prompts": ("a red circle",), **options})
    return [event for event in imagine.run(request, engine) if isinstance(event, Picture)]


def test_pictures_are_drawn_together_as_far_as_memory_goes(engine, monkeypatch):
    labels = set()

    def drawn_with(free):
        monkeypatch.setattr(decode, "free_memory", lambda device: free)
        request = ImagineRequest(prompts=("a red circle",), count=4, seed=7)
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
    both = draw(engine, prompts=("two", "a red circle on white"), count=2)
    alone = draw(engine, prompts=("a red circle on white",), count=2)
    assert [p.pixels for p in both[2:]] == [p.pixels for p in alone]
    assert [(p.index, p.prompt, p.seed) for p in both] == [
        (0, "two", 0),
        (0, "two", 1),
        (1, "a red circle on white", 0),
        (1, "a red circle on white", 1),
    ]


def test_pictures_of_several_prompts_are_drawn_together(engine):
    request = ImagineRequest(prompts=("two", "a red circle on white"), count=2)
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
        {"prompts": ("how many",)},
    ],
)
def test_every_setting_changes_the_picture(engine, options):
    assert draw(engine, **options)[0].pixels != draw(engine)[0].pixels


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
        draw(engine, prompts=("circle " * 600,))
    with pytest.raises(UsageError, match="--negative: takes"):
        draw(engine, negative="circle " * 600)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_multiples_of_a_tile_treat_rows_alike(dtype):
    linear = torch.nn.Linear(64, 96, bias=False, dtype=dtype)
    tile = smallest_tile(linear, dtype, torch.device("cpu"))
    rows = torch.randn(LARGEST_TILE, 64).to(dtype)
    whole = linear(rows)
    for first in range(0, len(rows), tile):
        assert torch.equal(linear(rows[first : first + tile]), whole[first : first + tile])
