"""On a GPU: the same answers and pictures as on the CPU, whatever the batch."""

import pytest
import torch

from janus_cli.engine.decode import Sampling
from janus_cli.engine.load import open_engine
from janus_cli.schema import ModelChoice
from tests.checkpoints import IMAGE_SIZE

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


def test_greedy_text(engines):
    pixels = torch.linspace(-1, 1, 3 * IMAGE_SIZE**2).view(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    ids = engines[0].writer.conversation(1, [], "how many penguins are there?")
    answers = [list(engine.write(ids, pixels, max_tokens=32)) for engine in engines]
    assert answers[0] == answers[1]


def test_greedy_pictures(engines):
    ids = engines[0].writer.drawing("a red circle")
    painted = []
    for engine in engines:
        columns = engine.draw(ids, engine.writer.unconditional(ids), [0], Sampling(temperature=0))
        painted.append(engine.paint(torch.stack(list(columns), dim=1)).int())
    assert (painted[0] - painted[1]).abs().max() <= 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_does_not_depend_on_its_neighbours(tiny_checkpoint_path, precision):
    engine = open_engine(tiny_checkpoint_path, ModelChoice(device="cuda", precision=precision))
    ids = engine.writer.drawing("a red circle")
    other = engine.writer.unconditional(ids)
    together = torch.stack(list(engine.draw(ids, other, [7, 8, 9, 10], Sampling())), dim=1)
    for row, seed in enumerate((7, 8, 9, 10)):
        alone = torch.stack(list(engine.draw(ids, other, [seed], Sampling())), dim=1)
        assert torch.equal(alone[0], together[row])
