"""Virtual rasters (VRT): read, checked against a list of what is known, and written anew before GDAL sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from rasterio.errors import RasterioError

from spectral_tl_bench.datasets.io.formats import has_own_signature, open_plain, parse_xml
from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.paths import leads_out, path_inside

_RECTANGLE = {"xOff", "yOff", "xSize", "ySize"}
_KNOWN: dict[str, set[str]] = {
    "VRTDataset": {"rasterXSize", "rasterYSize"},
    "SRS": {"dataAxisToSRSAxisMapping", "coordinateEpoch"},
    "GeoTransform": set(),
    "GCPList": {"Projection", "dataAxisToSRSAxisMapping"},
    "GCP": {"Id", "Info", "Pixel", "Line", "X", "Y", "Z"},
    "Metadata": {"domain"},
    "MDI": {"key"},
    "VRTRasterBand": {"dataType", "band", "blockXSize", "blockYSize", "subClass"},
    "MaskBand": set(),
    "ColorTable": set(),
    "Entry": {"c1", "c2", "c3", "c4"},
    "CategoryNames": set(),
    "SimpleSource": {"resampling"},
    "ComplexSource": {"resampling"},
    "SourceFilename": {"relativeToVRT", "shared"},
    "SourceProperties": {"RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize"},
    "SrcRect": _RECTANGLE,
    "DstRect": _RECTANGLE,
    **{
        name: set()
        for name in (
            *("BlockXSize", "BlockYSize", "NoDataValue", "HideNoDataValue", "ColorInterp", "Category", "Description"),
            *("Offset", "Scale", "UnitType", "SourceBand", "NODATA", "UseMaskBand", "ScaleOffset", "ScaleRatio", "LUT"),
        )
    },
}
"""Elements that copy, place and scale pixels of other files, and their attributes. GDAL reads an attribute as it reads
a child element, and both without case: what is not spelled like this is refused."""
_DROPPED = {"OverviewList", "Histograms", "GDALRasterAttributeTable"}
_DOMAINS = {"", "IMAGERY", "ENVI", "RPC", "IMAGE_STRUCTURE"}


@dataclass(frozen=True)
class _Vrt:
    """The text that GDAL reads, the files behind it, and those used whole: (file, height, width)."""

    text: str
    sources: tuple[str, ...]
    whole: tuple[tuple[str, float, float], ...]


def is_virtual(path: Path | str) -> bool:
    """Whether a path names a virtual raster."""
    return str(path).lower().endswith(".vrt")


def sources_of(path: Path | str) -> tuple[str, ...]:
    """The files that a virtual raster draws its pixels from, each once.

    Raises:
        DataError: If it is none, draws on files that are not in its folder or below, on other virtual rasters, or does
            more than copy, place and scale pixels.
    """
    return _checked(path).sources


def checked_vrt(path: Path | str) -> str:
    """The text of a virtual raster for GDAL: made of what was read and checked, with absolute paths.

    Raises:
        DataError: See :func:`sources_of`.
    """
    return _checked(path).text


def _checked(path: Path | str) -> _Vrt:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; restore it") from error
    vrt = _parsed(os.path.abspath(path), status.st_mtime_ns, status.st_size)
    sizes = {}
    for source in vrt.sources:
        # Looked at every time: a source may be exchanged while the VRT stays as it is.
        try:
            changed = os.stat(source).st_mtime_ns
        except OSError as error:
            raise DataError(f"{path} draws on {source}, which does not exist; restore it") from error
        sizes[source] = _size(source, changed, str(path))
    for source, height, width in vrt.whole:
        if sizes[source][0] > height or sizes[source][1] > width:
            raise _reduces(path, source)
    return vrt


@lru_cache(maxsize=65536)
def _size(source: str, changed: int, path: str) -> tuple[int, int]:
    """Height and width of a source. GDAL would try every format on one without a signature."""
    if not has_own_signature(source):
        raise DataError(
            f"{path} draws on {source}, which is no raster that holds its own pixels and begins with a signature; "
            "write it as GeoTIFF (gdal_translate)"
        )
    try:
        with open_plain(source) as opened:
            return opened.height, opened.width
    except RasterioError as error:
        raise DataError(f"{path} draws on {source}, which is no raster that holds its own pixels") from error


@lru_cache(maxsize=4096)
def _parsed(path: str, changed: int, size: int) -> _Vrt:
    root = parse_xml(Path(path))
    if root.tag != "VRTDataset":
        raise DataError(f"{path} is no virtual raster of other files; write it with gdalbuildvrt")
    sources: list[str] = []
    whole: list[tuple[str, float, float]] = []
    _clean(root, path)
    shape = (_number(root.get("rasterYSize"), path), _number(root.get("rasterXSize"), path))
    for element in root.iter():
        if element.tag not in ("SimpleSource", "ComplexSource"):
            continue
        named = element.findall("SourceFilename")
        if len(named) != 1:
            raise DataError(f"{path} has a source that names {len(named)} files; write it with gdalbuildvrt")
        file = _source(path, (named[0].text or "").strip(), named[0].get("relativeToVRT") == "1")
        named[0].text = file
        named[0].attrib.clear()
        named[0].set("relativeToVRT", "0")
        sources.append(file)
        taken, placed = element.findall("SrcRect"), element.findall("DstRect")
        height, width = _extent(placed, path) or shape
        extent = _extent(taken, path)
        if extent is None:
            whole.append((file, height, width))
        elif extent[0] > height or extent[1] > width:
            raise _reduces(path, file)
    if not sources:
        raise DataError(f"{path} is no virtual raster of other files; write it with gdalbuildvrt")
    return _Vrt(ElementTree.tostring(root, encoding="unicode"), tuple(dict.fromkeys(sources)), tuple(whole))


def _clean(element: ElementTree.Element, path: str) -> None:
    """Refuse what is not known below an element, and drop what does not decide pixels."""
    unknown = next((name for name in element.attrib if name not in _KNOWN.get(element.tag, set())), None)
    kind = element.attrib.pop("subClass", "VRTSourcedRasterBand")
    if element.tag not in _KNOWN or unknown is not None or kind != "VRTSourcedRasterBand":
        what = element.tag if element.tag not in _KNOWN else unknown or kind
        raise DataError(
            f"{path} does more than put pixels of other files together ({what}); write its result as GeoTIFF "
            "(gdal_translate)"
        )
    for child in list(element):
        # Another domain of metadata may name a file of overviews.
        if child.tag in _DROPPED or (child.tag == "Metadata" and child.get("domain", "") not in _DOMAINS):
            element.remove(child)
        else:
            _clean(child, path)


def _extent(rectangles: list[ElementTree.Element], path: str) -> tuple[float, float] | None:
    if not rectangles:
        return None
    if len(rectangles) > 1:
        raise DataError(f"{path} places a source twice; write it with gdalbuildvrt")
    return _number(rectangles[0].get("ySize"), path), _number(rectangles[0].get("xSize"), path)


def _number(text: str | None, path: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not 0 < value < 2**31:
        raise DataError(f"{path} is no virtual raster: {text!r} is no size in pixels; write it with gdalbuildvrt")
    return value


def _reduces(path: Path | str, source: str) -> DataError:
    return DataError(f"{path} reduces the pixels of {source}; write its result as GeoTIFF (gdal_translate)")


def _source(path: str, name: str, relative: bool) -> str:
    folder = Path(path).parent
    inside = path_inside(folder, name) if relative and not {*':"\\<>'} & {*name} else None
    if inside is None or leads_out(folder, inside):
        raise DataError(
            f"{path} draws on {name!r}, which is not in its folder; a virtual raster names files in its own folder or "
            "below, relative to itself (relativeToVRT=1)"
        )
    return str(inside)
