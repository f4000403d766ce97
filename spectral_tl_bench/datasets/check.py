"""Checking an archive: every tile opened, its numbers set against what is published, files against their digests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import computed_field

from spectral_tl_bench.config.domains import Transfer, attribute_column, cuts
from spectral_tl_bench.config.protocols import ProtocolFile, protocols_about, protocols_of
from spectral_tl_bench.datasets import dataset_class, open_dataset
from spectral_tl_bench.datasets.io.label_codes import code_counts
from spectral_tl_bench.datasets.io.listing import Problem
from spectral_tl_bench.datasets.io.raster import map_labels
from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.validation import Value

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset

PLAUSIBLE_MEAN = (0.001, 1.2)
"""Mean reflectance of any landscape lies between these; outside, the scale is wrong."""


class TileCount(Value):
    """How many tiles there are of something, and how many are published (None: nothing is)."""

    what: str
    found: int
    published: int | None


class ClassCount(Value):
    """Pixels of one label code; ``name`` is None for ignored codes."""

    code: int
    name: str | None
    pixels: int


class BandStatistics(Value):
    """Reflectance of one band over all pixels with data."""

    band: str
    minimum: float
    maximum: float
    mean: float
    std: float


class CheckReport(Value):
    """What a check found.

    Attributes:
        dataset: Name of the dataset, or of the protocol file about your own tiles.
        root: Folder of the archive.
        tiles: Usable tiles.
        tiles_read: Tiles whose pixels were read.
        counts: Tiles by attribute and by side of each protocol.
        problems: Files that cannot be used; none in a sound archive.
        left_out: Files that are no part of a tile and do no harm, such as an image without a label.
        notes: What is worth knowing and no error: a partial archive, copies, a doubtful scale.
        labels: Pixels by label code.
        bands: Reflectance by band.
        nodata_share: Share of pixels without data.
    """

    dataset: str
    root: str
    tiles: int
    tiles_read: int
    counts: tuple[TileCount, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[Problem, ...] = ()
    notes: tuple[str, ...]
    labels: tuple[ClassCount, ...]
    bands: tuple[BandStatistics, ...]
    nodata_share: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ok(self) -> bool:
        """Whether every file can be used; numbers that differ from the published ones do not count against it."""
        return not self.problems


@dataclass(frozen=True)
class _TileFigures:
    """Sums over one tile; ``totals`` is bands x (minimum, maximum, sum, sum of squares)."""

    pixels: int
    valid: int
    codes: dict[int, int]
    totals: np.ndarray


def check_archive(dataset: str | ProtocolFile, root: str | Path, sample: int | None = None) -> CheckReport:
    """Check an archive: names and pairs, headers, pixels, label codes, numbers of tiles.

    A partial or simulated archive is sound as long as its tiles are: numbers that differ from the published ones are
    notes.

    Args:
        dataset: Name of an archive, or a protocol file (needed for your own tiles).
        root: Folder of the archive.
        sample: Read the pixels of so many tiles, spread evenly; None reads all.

    Raises:
        UnknownNameError: If no dataset has that name.
        DatasetNotFoundError: If ``root`` holds no file of the archive.
        DataError: If the archive cannot be listed at all.
    """
    if isinstance(dataset, str):
        cls: Any = dataset_class(dataset)
        if dataset == "tiles":
            raise DataError("your own tiles are described by their protocol file: give its path instead of 'tiles'")
        opened: TileDataset = cls(root, strict=False)
        transfers = {p.name: p.transfer for p in protocols_about(dataset)}
    else:
        opened = open_dataset(dataset, root, strict=False)
        transfers = {p.name: p.transfer for p in protocols_of(dataset)}
    counts = [*_attribute_counts(opened), *_protocol_counts(opened, transfers)]
    outside = {} if isinstance(dataset, str) else _on_neither_side(opened, transfers)
    positions = _sample(len(opened), sample)
    figures, problems = _read_tiles(opened, positions)
    if not problems:
        problems = opened.facts.verify(opened.index.iloc[positions].to_dict("records"))
    bands = _band_statistics(opened, figures)
    pixels, valid = sum(f.pixels for f in figures), sum(f.valid for f in figures)
    return CheckReport(
        dataset=dataset if isinstance(dataset, str) else dataset.name,
        root=str(opened.root),
        tiles=len(opened) - len(problems),
        tiles_read=len(figures),
        counts=tuple(counts),
        problems=(*opened.problems, *problems),
        left_out=tuple(opened.left_out),
        notes=(*_notes(opened, counts, bands), *outside.values()),
        labels=_class_counts(opened, figures),
        bands=bands,
        nodata_share=1 - valid / pixels if pixels else 0.0,
    )


def _attribute_counts(dataset: TileDataset) -> Iterator[TileCount]:
    for attribute, published in dataset.published_counts().items():
        found = dataset.index[attribute].astype(str).value_counts()
        for value, number in published.items():
            yield TileCount(what=f"{attribute} = {value}", found=int(found.get(value, 0)), published=number)


def _protocol_counts(dataset: TileDataset, transfers: dict[str, Transfer]) -> Iterator[TileCount]:
    for name, transfer in transfers.items():
        if not dataset.unknown.keys().isdisjoint((*transfer.source.where, *transfer.target.where)):
            continue
        # The contest's release of DFC2020 has a split of its own, about which a protocol's file says nothing.
        published = (transfer.tiles if not dataset.unknown else None) or (None, None)
        for side, number in zip(("source", "target"), published, strict=True):
            domain = transfer.source if side == "source" else transfer.target
            # Where no tile can be used, the index lacks the attributes too; the problems say why.
            found = 0 if dataset.index.empty else int(domain.select(dataset.index).sum())
            yield TileCount(what=f"{name} {side}", found=found, published=number)


def _on_neither_side(dataset: TileDataset, transfers: dict[str, Transfer]) -> dict[str, str]:
    """Count the tiles that a protocol leaves out, with the values that they have, by the protocol's name."""
    found = {}
    for name, transfer in transfers.items():
        attributes = {
            a: attribute_column(dataset.index.columns, a) for a in (*transfer.source.where, *transfer.target.where)
        }
        attributes = {a: column for a, column in attributes.items() if not cuts(dataset.index.columns, a)}
        if not dataset.unknown.keys().isdisjoint(attributes) or not {*attributes.values()} <= {*dataset.index.columns}:
            continue
        rest = dataset.index[~(transfer.source.select(dataset.index) | transfer.target.select(dataset.index))]
        if len(rest):
            values = Counter(
                ", ".join(f"{a} = {row[c]!r}" for a, c in attributes.items()) for _, row in rest.iterrows()
            )
            shown = "; ".join(f"{value}: {number}" for value, number in values.most_common(5))
            found[name] = f"{name}: {len(rest)} tiles are on neither side ({shown}{'; ...' if len(values) > 5 else ''})"
    return found


def _sample(tiles: int, sample: int | None) -> list[int]:
    if sample is None or sample >= tiles:
        return list(range(tiles))
    positions: list[int] = np.unique(np.linspace(0, tiles - 1, max(sample, 1)).round().astype(int)).tolist()
    return positions


def _read_tiles(dataset: TileDataset, positions: list[int]) -> tuple[list[_TileFigures], list[Problem]]:
    def read(position: int) -> _TileFigures | Problem:
        row = dataset.index.iloc[position]
        try:
            return _tile_figures(dataset, row)
        except DataError as error:
            message = str(error)
            path = row["label"] if row["label"] in message else row["image"]
            return Problem("codes" if "label code" in message else "unreadable", path, message)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(read, positions))
    figures = [result for result in results if isinstance(result, _TileFigures)]
    return figures, [result for result in results if isinstance(result, Problem)]


def _tile_figures(dataset: TileDataset, row: Mapping[Any, Any]) -> _TileFigures:
    pixels, valid = dataset.image_at(row)
    codes = dataset.label_at(row)
    map_labels(codes, dataset.label_table, row["label"], 255)
    reflectance = dataset.to_reflectance(torch.from_numpy(pixels)).flatten(1).numpy()
    if valid is not None:
        reflectance = reflectance[:, valid.ravel()]
    totals = np.zeros((len(pixels), 4))
    totals[:, 0], totals[:, 1] = np.inf, -np.inf
    if reflectance.size:
        totals[:, 0], totals[:, 1] = reflectance.min(axis=1), reflectance.max(axis=1)
        totals[:, 2] = reflectance.sum(axis=1, dtype=np.float64)
        totals[:, 3] = np.square(reflectance, dtype=np.float64).sum(axis=1)
    return _TileFigures(codes.size, reflectance.shape[1], code_counts(codes), totals)


def _band_statistics(dataset: TileDataset, figures: list[_TileFigures]) -> tuple[BandStatistics, ...]:
    valid = sum(f.valid for f in figures)
    if not valid:
        return ()
    totals = np.stack([f.totals for f in figures])
    mean = totals[..., 2].sum(axis=0) / valid
    std = np.sqrt(np.maximum(totals[..., 3].sum(axis=0) / valid - mean**2, 0))
    low, high = totals[..., 0].min(axis=0), totals[..., 1].max(axis=0)
    return tuple(
        BandStatistics(band=band.name, minimum=lo, maximum=hi, mean=m, std=s)
        for band, lo, hi, m, s in zip(
            dataset.sensor.bands, low.tolist(), high.tolist(), mean.tolist(), std.tolist(), strict=True
        )
    )


def _class_counts(dataset: TileDataset, figures: list[_TileFigures]) -> tuple[ClassCount, ...]:
    names = {c.code: c.name for c in dataset.classes}
    totals = Counter(dict.fromkeys(names, 0))
    for f in figures:
        totals.update(f.codes)
    return tuple(ClassCount(code=code, name=names.get(code), pixels=pixels) for code, pixels in sorted(totals.items()))


def _notes(dataset: TileDataset, counts: list[TileCount], bands: tuple[BandStatistics, ...]) -> Iterator[str]:
    yield from dict.fromkeys(dataset.unknown.values())
    yield from dataset.notes
    differing = [count for count in counts if count.published not in (None, count.found)]
    near = [count for count in differing if _is_variant(dataset, count)]
    if near:
        which = ", ".join(f"{count.what} {count.found} (published: {count.published})" for count in near)
        yield f"other numbers than the paper's, as releases of this archive are known to have: {which}"
    if len(differing) > len(near):
        yield "the numbers of tiles differ from the published ones: a partial or simulated archive"
    # Where no tile can be used, the problems say why.
    sides = [count for count in counts if count.what.endswith((" source", " target")) and not dataset.index.empty]
    for count in islice((c for c in sides if not c.found), 3):
        yield f"{count.what} has no tile, so that protocol cannot run"
    low, high = PLAUSIBLE_MEAN
    odd = [b for b in bands if not low <= b.mean <= high]
    if len(odd) > len(bands) / 2:
        yield (
            f"mean reflectance of {odd[0].band} is {odd[0].mean:.3g}: the tiles are probably not scaled by "
            f"{dataset.sensor.scale:g}"
        )
    if "indomain_source" in dataset.index and (dataset.index["indomain_source"] == "blocked").any():
        yield "the in-domain split is our own (blocked, 70 to 30): the authors' data_list is not under the root"


def _is_variant(dataset: TileDataset, count: TileCount) -> bool:
    published = count.published or 0
    return count.found in (published - 1, published + 1, *dataset.count_variants.get(published, ()))
