"""The codes that are learned: those of the tokenizer, but for choices that nobody sees."""

import pytest
import torch

from janus_cli.engine.vq import VQTokenizer
from janus_cli.train import recipe
from janus_cli.train.codes import FrequentCodes
from janus_cli.train.data import to_pixels
from janus_cli.train.pupil import open_pupil
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import sample_scene
from janus_cli.weights import EMBEDDED, find_model


@pytest.fixture(scope="module")
def vq() -> VQTokenizer:
    return open_pupil(find_model(EMBEDDED), torch.device("cpu")).model.vq.requires_grad_(False)


@pytest.fixture(scope="module")
def pixels():
    scenes = [sample_scene(seed, text_share=0) for seed in range(10)]
    return to_pixels(torch.stack([torch.from_numpy(render(scene)) for scene in scenes]))


def entropy(codes):
    shares = torch.bincount(codes.flatten(), minlength=recipe.EMBEDDED.vq.codes) / codes.numel()
    return torch.special.entr(shares).sum().item()


def test_without_patience_they_are_the_tokenizers(vq, pixels):
    assert torch.equal(FrequentCodes(vq, pixels, patience=0)(pixels), vq.encode(pixels).flatten(1))


def test_patience_takes_noise_away_and_keeps_the_picture(vq, pixels):
    plain, frequent = vq.encode(pixels).flatten(1), FrequentCodes(vq, pixels)(pixels)
    assert entropy(frequent) < 0.9 * entropy(plain)

    def error(codes):
        made = vq.decode(codes.view(-1, 24, 24))
        return (made - pixels).square().mean().item()

    # Patience tells what codes cost, so pictures are no worse than by a tenth.
    assert error(frequent) < 1.1 * error(plain)


def test_a_picture_has_the_same_codes_in_any_batch(vq, pixels):
    frequent = FrequentCodes(vq, pixels)
    assert torch.equal(frequent(pixels)[3:5], frequent(pixels[3:5]))
