"""Labels: what a class is, and the id of pixels that do not count."""

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
