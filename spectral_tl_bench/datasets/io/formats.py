"""Opening a raster: the formats that are tried, the files beside it that GDAL reads as well, and what they may hold."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import rasterio

from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.paths import leads_out

FORMATS = ["GTiff", "ENVI", "HFA", "JP2OpenJPEG", "PNG", "JPEG", "BMP", "NITF", "EHdr", "PCIDSK", "AAIGrid"]
"""GDAL's names of the formats that are read. All contain their own pixels. Others (map services, catalogues, tile
indexes) make GDAL open further files or send requests."""

SUFFIXES = (
    *(".vrt", ".tif", ".tiff", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip", ".jp2", ".j2k", ".png", ".asc", ".bmp"),
    *(".ntf", ".nitf", ".pix"),
)
"""Suffixes of raster files in lower case; files may spell them in any case."""

_MAY_LINK = {"HFA", "NITF", "PCIDSK"}
"""Formats that can name a second file that contains pixels."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LARGEST_XML = 16 * 2**20
_FRESH = 0.1
"""Seconds after which a folder's time of change is taken to show every change."""
_NO_DATA_IN_IT = {"Histograms", "GDALRasterAttributeTable"}


def unreadable(path: Path | str, error: Exception) -> DataError:
    """Return the error for a file that a reader gave up on, in one line."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"cannot read {path}: {reason}; the file is damaged or incomplete, fetch it again")


def open_plain(path: Path | str) -> rasterio.DatasetReader:
    """Open a raster in one of ``FORMATS``.

    Raises:
        DataError: If it, or a file beside it, makes GDAL open files elsewhere.
        RasterioError: If it cannot be read.
    """
    require_plain_sidecars(path)
    # GDAL registers its drivers when the first environment starts. rasterio.open would try every driver, or one.
    with rasterio.Env():
        source = rasterio.DatasetReader(path, driver=FORMATS)
    if source.driver in _MAY_LINK:
        folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
        elsewhere = [file for file in source.files if file != str(path) and not _is_inside(file, folder)]
        if elsewhere:
            source.close()
            raise DataError(
                f"{path} reads {elsewhere[0]}, which is not in its folder; write it as GeoTIFF (gdal_translate)"
            )
    return source


def _is_inside(path: str, folder: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder)


def sidecars(path: Path | str) -> dict[str, str]:
    """The files beside a raster that decide how GDAL reads it, by kind.

    Kinds are ``hdr`` (ENVI or ESRI header), ``aux.xml`` and ``aux`` (metadata), ``msk`` (mask), ``prj``, ``world`` and
    ``tab`` (where it lies). Overviews do not count. Names are compared without case, as GDAL does.

    Args:
        path: The raster.

    Returns:
        Absolute paths of those that exist.
    """
    folder, name = os.path.split(os.path.abspath(path))
    stem, suffix = os.path.splitext(name.lower())
    wanted = {
        f"{stem}.hdr": "hdr",
        f"{name.lower()}.hdr": "hdr",
        f"{name.lower()}.aux.xml": "aux.xml",
        f"{stem}.aux": "aux",
        f"{name.lower()}.aux": "aux",
        f"{name.lower()}.msk": "msk",
        f"{stem}.prj": "prj",
        f"{stem}.tab": "tab",
        **{f"{stem}.{world}": "world" for world in ("wld", f"{suffix[1:2]}{suffix[-1:]}w", f"{suffix[1:]}w")},
    }
    present = file_names(folder)
    found = {kind: present[beside][0] for beside, kind in wanted.items() if beside in present}
    return {kind: os.path.join(folder, file) for kind, file in found.items() if file != name}


def file_names(folder: str) -> Mapping[str, tuple[str, ...]]:
    """Names of what is in a folder by their spelling in lower case."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:
        return {}
    # Within one tick of the clock a folder may change twice and show one time.
    if time.time() - changed / 1e9 < _FRESH:
        return _listed.__wrapped__(folder, changed)
    return _listed(folder, changed)


@lru_cache(maxsize=256)
def _listed(folder: str, changed: int) -> Mapping[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            names[name.lower()] = (*names.get(name.lower(), ()), name)
    return names


def require_plain_sidecars(path: Path | str) -> None:
    """Refuse a raster with a file beside it that makes GDAL open files elsewhere.

    GDAL opens a mask or an overview in any format, and metadata may name a file of overviews.

    Raises:
        DataError: If there is one.
    """
    folder, name = os.path.split(os.path.abspath(path))
    present = file_names(folder)
    beside = sidecars(path)
    named = {f"{name}.ovr".lower(), f"{os.path.splitext(name)[0]}.ovr".lower()}
    overviews = [os.path.join(folder, file) for key in named for file in present.get(key, ())]
    for file in (*beside.values(), *overviews):
        if not os.path.islink(path) and leads_out(Path(folder), Path(file)):
            raise DataError(f"{file}, which belongs to {path}, is a link out of its folder; put the file in its place")
    for file in (*([beside["msk"]] if "msk" in beside else []), *overviews):
        if _start(file)[:4] not in _TIFF:
            raise DataError(f"{file}, which belongs to {path}, is no TIFF file; remove it, or write it with GDAL again")
    if "aux.xml" in beside:
        for element in _xml(beside["aux.xml"]).iter():
            if any("overview" in value.lower() for value in (*element.attrib.values(), element.text or "")):
                raise DataError(
                    f"{beside['aux.xml']}, which belongs to {path}, names a file of overviews; remove the file"
                )


def decisive_metadata(path: str) -> bytes:
    """What of an ``.aux.xml`` file decides pixels: without statistics and histograms, which any viewer may add."""
    return b"\n".join(_lines(_xml(path)))


def _lines(element: ElementTree.Element) -> Iterator[bytes]:
    for child in element:
        key = child.get("key", "")
        if child.tag in _NO_DATA_IN_IT or key.startswith("STATISTICS_"):
            continue
        below = list(_lines(child))
        text = (child.text or "").strip()
        if below or text or (child.attrib and child.tag not in ("Metadata", "PAMRasterBand")):
            yield repr((child.tag, sorted(child.attrib.items()), text)).encode()
            yield from below


def _xml(path: str) -> ElementTree.Element:
    return parse_xml(Path(path))


def parse_xml(path: Path) -> ElementTree.Element:
    """Parse a small XML file without entities.

    Raises:
        DataError: If it is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_XML + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; restore it") from error
    if len(text) > _LARGEST_XML:
        raise DataError(f"{path} is larger than {_LARGEST_XML // 2**20} MiB, too large for a description of a raster")
    # Encodings other than UTF-8 could hide a declaration.
    if b"<!" in text.replace(b"<!--", b"") or b"\0" in text or text.count(b"<") > 10**6:
        raise DataError(
            f"{path} is no virtual raster or metadata file: it defines entities or holds binary data; write it with "
            "GDAL again"
        )
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is no virtual raster or metadata file: {error}; write it with GDAL again") from error


def _start(path: str, size: int = 64) -> bytes:
    try:
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise unreadable(path, error) from error


def has_own_signature(path: str) -> bool:
    """Whether a file begins as only one format does: GDAL takes it for that one whatever drivers it may try."""
    start = _start(path)
    jpeg2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51\0")
    return start.startswith((*_TIFF, b"\x89PNG\r\n\x1a\n\0", b"\xff\xd8\xff", b"EHFA_HEADER_TAG\0", *jpeg2000))
