"""Virtual rasters: which files a VRT draws its pixels from, and that these lie in its own folder."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import rasterio
from rasterio.errors import RasterioError

from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.paths import leads_out, path_inside

FORMATS = ["GTiff", "ENVI", "HFA", "JP2OpenJPEG", "PNG", "JPEG", "BMP", "NITF", "EHdr", "PCIDSK", "AAIGrid"]
"""GDAL's names of the formats in which a tile may be stored. All hold their pixels themselves: a map service in a
stranger's archive would make GDAL read other files, or from a network."""

_LARGEST = 16 * 2**20
_PLAIN = {
    *(
        "VRTDataset",
        "SRS",
        "GeoTransform",
        "GCPList",
        "GCP",
        "Metadata",
        "MDI",
        "VRTRasterBand",
        "MaskBand",
        "BlockXSize",
    ),
    *(
        "BlockYSize",
        "NoDataValue",
        "HideNoDataValue",
        "ColorInterp",
        "ColorTable",
        "Entry",
        "CategoryNames",
        "Category",
    ),
    *("Description", "Offset", "Scale", "UnitType", "SimpleSource", "ComplexSource", "SourceFilename", "SourceBand"),
    *("SourceProperties", "SrcRect", "DstRect", "NODATA", "ScaleOffset", "ScaleRatio", "LUT", "UseMaskBand"),
}
"""Elements that copy, place and scale pixels of other files. Others warp, run programs, or name files in other ways."""


def is_virtual(path: Path | str) -> bool:
    """Whether a path names a virtual raster."""
    return str(path).lower().endswith(".vrt")


def sources_of(path: Path | str) -> tuple[str, ...]:
    """The files that a virtual raster draws its pixels from.

    Args:
        path: The VRT.

    Returns:
        Their paths, each once.

    Raises:
        DataError: If it is none, draws on files that are not in its folder or below, on other virtual rasters, or does
            more than copy, place and scale pixels.
    """
    try:
        stamp = os.stat(path).st_mtime_ns
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; restore it") from error
    sources = _sources(str(path), stamp)
    for source in sources:
        # Looked at every time: a source may be exchanged while the VRT stays as it is.
        try:
            _require_raster(source, os.stat(source).st_mtime_ns, str(path))
        except OSError as error:
            raise DataError(f"{path} draws on {source}, which does not exist; restore it") from error
    return sources


@lru_cache(maxsize=4096)
def _sources(path: str, stamp: int) -> tuple[str, ...]:
    with open(path, "rb") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise DataError(f"{path} is larger than {_LARGEST // 2**20} MiB, too large for a virtual raster")
    if b"<!" in text:
        raise DataError(f"{path} is no plain virtual raster: it defines entities; write it with gdalbuildvrt")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is no virtual raster: {error}; write it with gdalbuildvrt") from error
    folder = Path(path).parent
    found: list[str] = []
    for element in root.iter():
        kind = element.get("subClass", "VRTSourcedRasterBand")
        if element.tag not in _PLAIN or kind != "VRTSourcedRasterBand":
            what = element.tag if element.tag not in _PLAIN else kind
            raise DataError(
                f"{path} does more than put pixels of other files together ({what}); write its result as GeoTIFF "
                "(gdal_translate)"
            )
        if element.tag == "SourceFilename":
            found.append(_source(path, folder, (element.text or "").strip(), element.get("relativeToVRT") == "1"))
    if root.tag != "VRTDataset" or not found:
        raise DataError(f"{path} is no virtual raster of other files; write it with gdalbuildvrt")
    return tuple(dict.fromkeys(found))


def _source(path: str, folder: Path, name: str, relative: bool) -> str:
    inside = path_inside(folder, name) if relative and not {*':"\\'} & {*name} else None
    if inside is None or leads_out(folder, inside):
        raise DataError(
            f"{path} draws on {name!r}, which is not in its folder; a virtual raster names files in its own folder or "
            "below, relative to itself (relativeToVRT=1)"
        )
    return str(inside)


@lru_cache(maxsize=65536)
def _require_raster(source: str, stamp: int, path: str) -> None:
    """Refuse a source that is no raster by itself: GDAL would try every format on it."""
    try:
        with rasterio.DatasetReader(source, driver=FORMATS):
            pass
    except RasterioError as error:
        raise DataError(f"{path} draws on {source}, which is no raster that holds its own pixels") from error
