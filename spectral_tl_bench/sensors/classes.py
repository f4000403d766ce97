"""Labels: what a class is, and the id of pixels that do not count."""

import colorsys

from pydantic import Field

from spectral_tl_bench.utils.validation import Value

LOWEST_CODE, HIGHEST_CODE = -32_767, 65_535
"""Codes on disk that a class may have, or a label map without more ado."""

UNLABELLED = LOWEST_CODE - 1
"""Code given to pixels of which a file says that they have no label: its own nodata, NaN, outside every polygon."""

IGNORE_INDEX = 255
"""Id of pixels without a label: no loss, no score."""


class LandClass(Value):
    """A class of the label map: its code on disk, its name and its colour as ``#rrggbb``."""

    code: int = Field(ge=LOWEST_CODE, le=HIGHEST_CODE)
    name: str
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")


def default_color(position: int) -> str:
    """Colour of a class without one of its own, as ``#rrggbb``: hues a golden angle apart, bright and dark in turn."""
    red, green, blue = colorsys.hsv_to_rgb(position * 0.381966 % 1, 0.75, (0.95, 0.65)[position % 2])
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
