"""How much of a picture may vary without a name, and the fonts; training's and evaluation's apart.

Evaluation has fonts that training never loads, and jitter that goes beyond training's, though never
so far that a person would call a color, a thing or a letter by another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from PIL import ImageFont

# Where a package says which fonts it brings: https://pypi.org/project/fonts
FONT_GROUPS = ("fonts_ttf", "fonts_otf")
FONT_FILES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSansMono.ttf",
    # These seven come with the extra `train`.
    "Caladea-Bold.ttf",
    "HankenGrotesk-SemiBold.otf",
    "Lato-Regular.ttf",
    "Manrope-Medium.ttf",
    "SourceSansPro-It.ttf",
    "SourceSansPro-Semibold.ttf",
    "SourceSerifPro-Bold.ttf",
    "LiberationSans-Regular.ttf",
    "LiberationSerif-Bold.ttf",
    "LiberationMono-Bold.ttf",
    "Arial.ttf",
    "Verdana.ttf",
    "Georgia.ttf",
    "Courier New.ttf",
)
# Whatever is added here must never have been above: models were trained on those.
UNSEEN_FONT_FILES = (
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansCondensed-Bold.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerifCondensed.ttf",
    "LiberationSansNarrow-Regular.ttf",
    "LiberationSerif-Regular.ttf",
    "FreeSansBold.ttf",
    "FreeSerif.ttf",
    "NotoSans-Regular.ttf",
    "NotoSerif-Bold.ttf",
    "OpenSans-Regular.ttf",
    "Roboto-Regular.ttf",
    "Ubuntu-R.ttf",
    "Tahoma.ttf",
    "Times New Roman.ttf",
    "Trebuchet MS.ttf",
)


@dataclass(frozen=True)
class Style:
    """The most by which pictures of one scene differ; numbers of colors are of 255."""

    color: int
    """Of a channel of a thing's or a text's color."""
    ground: int
    """Of a channel of a plain background."""
    clouds: float
    """Of a channel of a nebula."""
    shade: int
    """Of all channels of a pictogram together."""
    tilt: float = 0.0
    """Degrees to either side, beyond the tilt that the scene gives a thing."""
    smallest: float = 1.0
    """Share of the size that the scene gives a thing; no thing grows, so that none touch."""
    unseen_fonts: bool = False

    @property
    def varies_things(self) -> bool:
        return bool(self.tilt) or self.smallest < 1


TRAINING = Style(color=10, ground=5, clouds=6, shade=8)
DRAWN = Style(color=0, ground=0, clouds=0, shade=0)
# Half the way from yellow to orange, the nearest two, is 45; three channels of 18 make 31.
EVALUATION = Style(color=18, ground=10, clouds=9, shade=14, tilt=6.0, smallest=0.85)
UNSEEN = Style(18, 10, 9, 14, 6.0, 0.85, unseen_fonts=True)


@cache
def fonts() -> tuple[str | None, ...]:
    """Training's fonts on this machine: None for the one that comes with Pillow, then files."""
    return (None, *_installed(FONT_FILES))


@cache
def unseen_fonts() -> tuple[str, ...]:
    """The files on this machine of fonts that training never loads; there may be none."""
    return tuple(_installed(UNSEEN_FONT_FILES))


def _installed(names: tuple[str, ...]) -> list[str]:
    """Of these files those that are here, as Pillow takes them: a name, or a package's path."""
    found = []
    for file in (_packaged().get(name, name) for name in names):
        try:
            ImageFont.truetype(file, 20)
        except OSError:
            continue
        found.append(file)
    return found


@cache
def _packaged() -> dict[str, str]:
    """Font files of installed packages, by name."""
    packages = [entry.load() for group in FONT_GROUPS for entry in entry_points(group=group)]
    return {Path(path).name: path for files in packages for path in files.values()}
