"""Labels: what a class is, and the id of pixels that do not count."""

from pydantic import Field

from spectral_tl_bench.values import Value

IGNORE_INDEX = 255
"""Id of pixels without a label: no loss, no score."""


class LandClass(Value):
    """A class of the label map: its code on disk, its name and its colour as ``#rrggbb``."""

    code: int = Field(ge=0, le=65_535)
    name: str
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
