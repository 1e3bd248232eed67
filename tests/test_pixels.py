"""Preprocessing: long side to the size, the other truncated, centered on gray."""

import json

import pytest
import torch
from PIL import Image

from janus_cli.engine.pixels import Preprocessing
from janus_cli.errors import ModelError


def borders(pixels: torch.Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom rows and columns that show only the ground."""
    ground = (127 / 255 - 0.5) / 0.5
    seen = (pixels - ground).abs().amax(0) > 1e-6
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    size = pixels.shape[-1]
    return (
        columns[0].item(),
        rows[0].item(),
        size - 1 - columns[-1].item(),
        size - 1 - rows[-1].item(),
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((384, 384), (0, 0, 0, 0)),
        ((100, 50), (0, 96, 0, 96)),
        ((50, 100), (96, 0, 96, 0)),
        ((1000, 667), (0, 64, 0, 64)),  # 256.128 rows, truncated to 256
        ((1000, 668), (0, 64, 0, 64)),  # 256.512 rows: rounding would make 257
        ((999, 664), (0, 64, 0, 65)),  # 255 rows: the odd one goes below
        ((5000, 10), (0, 185, 0, 185)),  # never under 14 rows
    ],
)
def test_where_the_picture_lies(size, expected):
    picture = Image.new("RGB", size, (255, 0, 0))
    assert borders(Preprocessing(384).fit(picture)) == expected


def test_values_are_centered_and_colors_come_first():
    picture = Image.new("RGB", (10, 10), (255, 0, 51))
    pixels = Preprocessing(32).fit(picture)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 5, 5], torch.tensor([1.0, -1.0, -0.6]))


def test_an_untouched_picture_keeps_its_pixels():
    generator = torch.Generator().manual_seed(0)
    data = torch.randint(256, (32, 32, 3), generator=generator, dtype=torch.uint8)
    picture = Image.frombytes("RGB", (32, 32), data.numpy().tobytes())
    back = (Preprocessing(32).fit(picture) * 0.5 + 0.5) * 255
    torch.testing.assert_close(back.movedim(0, -1), data.float(), atol=1e-3, rtol=0)


def test_the_checkpoint_says_what_to_normalise_by(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]})
    )
    found = Preprocessing.load(tmp_path, 32)
    pixels = found.fit(Image.new("RGB", (32, 16), (255, 255, 255)))
    torch.testing.assert_close(pixels[:, 16, 16], torch.tensor([3.0, 2.0, 0.4 / 0.3]))
    ground = torch.tensor([102.0, 127.0, 153.0]) / 255
    expected = (ground - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.25, 0.3])
    torch.testing.assert_close(pixels[:, 0, 0], expected)


def test_without_the_file_the_published_values_hold(tmp_path):
    assert Preprocessing.load(tmp_path, 32) == Preprocessing(32)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        Preprocessing.load(tmp_path, 32)
