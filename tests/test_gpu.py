"""On a GPU: the same answers and pictures as on the CPU, whatever the batch."""

import pytest
import torch

from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.load import open_engine
from janus_cli.engine.sample import pick
from janus_cli.engine.shared import Shared
from janus_cli.schema import ModelChoice
from tests.checkpoints import IMAGE_SIZE
from tests.engines import answer, answers, draw, embed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def engines(tiny_checkpoint_path):
    return [
        open_engine(tiny_checkpoint_path, ModelChoice(device=device, precision="fp32"))
        for device in ("cpu", "cuda")
    ]


@pytest.fixture(scope="module")
def tiny_checkpoint_path(tmp_path_factory):
    from tests.checkpoints import save_tiny_checkpoint

    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def wide_checkpoint(tmp_path_factory):
    """Wide enough for every kind of quantization."""
    from tests.checkpoints import save_tiny_checkpoint

    return save_tiny_checkpoint(tmp_path_factory.mktemp("wide"), width=192)


def test_greedy_text(engines):
    pixels = torch.linspace(-1, 1, 3 * IMAGE_SIZE**2).view(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    ids = engines[0].writer.conversation(1, [], "how many penguins are there?")
    answers = [answer(engine, ids, pixels, max_tokens=32) for engine in engines]
    assert answers[0] == answers[1]


def test_greedy_pictures(engines):
    ids = engines[0].writer.drawing("a red circle")
    painted = []
    for engine in engines:
        codes = draw(engine, ids, sampling=Sampling(temperature=0))
        painted.append(engine.paint(codes).int())
    assert (painted[0] - painted[1]).abs().max() <= 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8", "int4", "nf4"])
def test_a_picture_does_not_depend_on_its_neighbours(wide_checkpoint, precision):
    engine = open_engine(wide_checkpoint, ModelChoice(device="cuda", precision=precision))
    ids = engine.writer.drawing("a red circle")
    together = draw(engine, ids, [7, 8, 9, 10])
    for row, seed in enumerate((7, 8, 9, 10)):
        assert torch.equal(draw(engine, ids, [seed])[0], together[row])


@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}])
def test_a_lone_row_is_picked_as_one_among_others(options):
    """Of as many choices as Janus has codes, where the order of a sum decides many a pick."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16384, generator=generator).cuda()
    uniforms = torch.rand(500, generator=generator).cuda()
    for first in range(0, 500, 2):
        both = uniforms[first : first + 2]
        together = pick(logits.expand(2, -1), both, **options)
        alone = [pick(logits[None], one[None], **options) for one in both]
        assert torch.equal(together, torch.cat(alone))


# Precisions. The plain layers are held to fp32 on the CPU; bounds as in test_precision.py.


@torch.inference_mode()
def logits(path, device, precision):
    """Of all words after a prompt with a picture, and after each of a few steps."""
    engine = open_engine(path, ModelChoice(device=device, precision=precision))
    pixels = torch.linspace(-1, 1, 3 * IMAGE_SIZE**2).view(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    ids = engine.writer.conversation(1, [], "how many penguins are there?")
    model = engine.model
    cache = engine.new_cache(rows=2, capacity=len(ids) + 4)
    state = model.language.prefill(embed(engine, ids, pixels), cache, [0, 1])
    states = [state]
    for token in (5, 6, 7, 8):
        words = torch.tensor([token, token], device=model.device)
        states.append(model.language.step(model.embed_text(words), cache)[:1])
    return model.text_logits(torch.cat(states)).float().cpu()


@pytest.mark.parametrize(
    ("precision", "bound"),
    [("fp32", 1e-4), ("bf16", 0.05), ("fp16", 0.02), ("int8", 0.1), ("int4", 0.4), ("nf4", 0.4)],
)
def test_every_precision_is_near_fp32(wide_checkpoint, precision, bound):
    if precision == "int4" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("packed int4 needs an Ampere GPU")
    wanted = logits(wide_checkpoint, "cpu", "fp32")
    found = logits(wide_checkpoint, "cuda", precision)
    assert ((found - wanted).norm() / wanted.norm()).item() < bound


@pytest.mark.parametrize("precision", ["int8", "int4", "nf4"])
def test_a_quantized_checkpoint_gives_the_same_bits(wide_checkpoint, tmp_path, precision):
    from janus_cli.engine.quantize import quantize_checkpoint

    folder, device = tmp_path / "quantized", torch.device("cuda")
    for _ in quantize_checkpoint(wide_checkpoint, folder, precision, device=device):
        pass
    on_load = logits(wide_checkpoint, "cuda", precision)
    assert torch.equal(logits(folder, "cuda", "auto"), on_load)


# The captured step


def test_a_captured_step_draws_what_an_eager_one_draws(wide_checkpoint, monkeypatch):
    from janus_cli.engine import decode, graph

    engine = open_engine(wide_checkpoint, ModelChoice(device="cuda", precision="bf16"))
    ids = engine.writer.drawing("a red circle")
    captured = []

    class Seen(graph.Repeated):
        def capture(self, inputs):
            captured.append(self.called)
            super().capture(inputs)

    monkeypatch.setattr(decode, "Repeated", Seen)
    monkeypatch.setattr(graph, "PAYS_BACK", 1)
    replayed = draw(engine, ids, [7, 8, 9])
    assert captured == [graph.WARM + 1]
    monkeypatch.setattr(graph, "PAYS_BACK", 10**6)
    assert torch.equal(draw(engine, ids, [7, 8, 9]), replayed)
    assert len(captured) == 1


def test_a_step_waits_for_nothing(wide_checkpoint):
    """No pick, no cache and no guidance asks the device for a number."""
    engine = open_engine(wide_checkpoint, ModelChoice(device="cuda", precision="bf16"))
    ids = engine.writer.drawing("a red circle")
    drawing = Drawing(ids, engine.writer.unconditional(ids), 7)
    for sampling in (Sampling(), Sampling(top_k=5, top_p=0.9), Sampling(temperature=0)):
        columns = engine.draw([drawing], sampling)
        for _ in range(3):
            next(columns)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in columns:
                pass
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_answers_together_are_the_answers_alone(wide_checkpoint):
    engine = open_engine(wide_checkpoint, ModelChoice(device="cuda", precision="fp32"))
    pixels = torch.linspace(-1, 1, 3 * IMAGE_SIZE**2).view(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    prompts = [
        Prompt(engine.writer.conversation(1, [], question), pixels)
        for question in ("how many?", "two", "a red circle on white")
    ]
    alone = [answers(engine, [prompt], max_tokens=12)[0] for prompt in prompts]
    assert answers(engine, prompts, max_tokens=12) == alone


def test_a_shared_engine_writes_between_steps_of_a_captured_drawing(wide_checkpoint, monkeypatch):
    """Text and replayed steps take turns in one thread; each is what it is alone."""
    from janus_cli.engine import graph

    monkeypatch.setattr(graph, "PAYS_BACK", 1)
    engine = open_engine(wide_checkpoint, ModelChoice(device="cuda", precision="fp32"))
    ids = engine.writer.drawing("a red circle")
    prompt = Prompt(engine.writer.conversation(0, [], "how many?"), max_tokens=12)
    pictures, said = draw(engine, ids, [7, 8]).cpu(), answers(engine, [prompt])
    shared = Shared(engine)
    try:
        drawings = [Drawing(ids, engine.writer.unconditional(ids), seed) for seed in (7, 8)]
        columns = shared.draw(drawings, Sampling())
        drawn = [next(columns) for _ in range(5)]
        assert answers(shared, [prompt]) == said
        drawn += columns
        assert torch.equal(torch.stack(drawn, dim=1), pictures)
        assert torch.equal(shared.paint(pictures), engine.paint(pictures.cuda()))
    finally:
        shared.close()
