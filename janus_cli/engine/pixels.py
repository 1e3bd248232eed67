"""A picture fitted to what the vision tower takes. It knows no files and no networks.

The rules are those of the authors' image_processing_vlm.py: the long side becomes the image size
with the other side truncated, bicubic, centered on a square of the mean color.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..errors import ModelError

SHORTEST_SIDE = 14  # min_size of the authors' processor


@dataclass(frozen=True)
class Preprocessing:
    """How one checkpoint wants its pictures; the published files say 0.5 for mean and deviation."""

    size: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @classmethod
    def load(cls, folder: Path, size: int) -> Preprocessing:
        """Read preprocessor_config.json; without the file, the published values hold."""
        path = folder / "preprocessor_config.json"
        if not path.exists():
            return cls(size)
        try:
            raw = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read ({error})") from error
        mean = raw.get("image_mean") or cls.mean
        deviation = raw.get("image_std") or cls.deviation
        return cls(size, tuple(mean), tuple(deviation))

    def fit(self, picture: Image.Image) -> Tensor:
        """An RGB picture of any size to normalised pixels (3, size, size), fp32."""
        return self.normalise(self.frame(picture))

    def frame(self, picture: Image.Image) -> Image.Image:
        """An RGB picture of any size in the middle of a square of the model's size."""
        longest = max(picture.size)
        width, height = (
            max(int(side / longest * self.size), SHORTEST_SIDE) for side in picture.size
        )
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        ground = tuple(int(255 * mean) for mean in self.mean)
        square = Image.new("RGB", (self.size, self.size), ground)
        square.paste(resized, ((self.size - width) // 2, (self.size - height) // 2))
        return square

    def normalise(self, square: Image.Image) -> Tensor:
        """A framed picture to normalised pixels (3, size, size), fp32."""
        pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(self.size, self.size, 3).movedim(-1, 0).float() / 255
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (self.mean, self.deviation))
        return (pixels - mean) / deviation
