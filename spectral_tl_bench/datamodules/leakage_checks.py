"""What would spoil a run's figures without anyone noticing, looked for before anything trains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely

from spectral_tl_bench.config.protocols import Protocol
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.datamodules.pixel_checks import pixel_problems
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.checksums import TileChecksums
from spectral_tl_bench.datasets.cross_sensor import crossed
from spectral_tl_bench.datasets.io.listing import Problem
from spectral_tl_bench.datasets.io.raster import unknown_code_error, unknown_codes
from spectral_tl_bench.sensors.classes import UNLABELLED
from spectral_tl_bench.splits.assignment import Split, split_tiles
from spectral_tl_bench.splits.few_labels import labelled_tiles
from spectral_tl_bench.utils.errors import DataError, ProtocolError

HELD_OUT_FRACTION: float = TrainingSpec.model_fields["held_out_fraction"].default
_SHARED = 0.01
"""Share of a tile that lies where others lie, above which it is the same site; below, outlines merely touch."""


class Parts:
    """The tiles of a protocol with what their files hold."""

    def __init__(
        self,
        name: str,
        dataset: TileDataset,
        split: Split,
        contents: Mapping[str, TileChecksums],
        label_fraction: float = 1.0,
        seed: int = 0,
        by_cells: bool = True,
    ) -> None:
        """Put together what belongs together.

        Args:
            name: The protocol's name.
            dataset: The archive, every split.
            split: Which tiles train, select and test.
            contents: What each of these tiles holds, by its name.
            label_fraction: Share of the training tiles whose labels are used.
            seed: Fixes the choice of these.
            by_cells: Whether a margin around held-out tiles was asked for.
        """
        self._by_cells = by_cells
        self._name, self._dataset, self._split, self._contents = name, dataset, split, contents
        self._names = dataset.index["tile"].astype(str).to_numpy()
        self._labelled = labelled_tiles(split, dataset.index, label_fraction, seed).rows

    def problems(self) -> Iterator[Problem]:
        """Name what a run refuses; pixels are looked at once nothing else is wrong."""
        found = list(self._without_pixels())
        yield from found
        if not found:
            sides = {"source": self._source(), "target": self._split.target.tolist()}
            yield from pixel_problems(
                self._name, self._dataset, sides, {part: rows.tolist() for part, rows in self._labelled_parts()}
            )

    def notes(self) -> Iterator[str]:
        """Say what is no reason to refuse a run, and yet good to know."""
        yield from self._classes_never_learnt()
        yield from self._same_site()
        yield from self._twice_on_one_side()
        if self._dataset.places is not None and self._split.rule == "blocks" and self._by_cells:
            yield (
                f"{self._name}: the source is too small for a margin around the tiles that are held out, so these have "
                "training tiles for neighbours"
            )

    def _source(self) -> list[int]:
        return [*self._split.training.tolist(), *self._split.held_out.tolist()]

    def _labelled_parts(self) -> tuple[tuple[str, np.ndarray], ...]:
        return (
            ("source training", self._labelled),
            ("held-out source", self._split.held_out),
            ("target", self._split.target),
        )

    def _without_pixels(self) -> Iterator[Problem]:
        """Label codes that the protocol does not know, parts without a class or a common one, tiles on both sides."""
        for position in self._split.tiles.tolist():
            unknown = unknown_codes(self._of(position).codes, self._dataset.label_table)
            if unknown:
                path = self._path(position, "label")
                yield Problem("codes", path, str(unknown_code_error(path, unknown)))
        for part, positions in self._labelled_parts():
            yield from self._without_class(part, positions.tolist())
        yield from self._nothing_in_common()
        yield from self._on_both_sides()

    def _of(self, position: int) -> TileChecksums:
        return self._contents[self._names[position]]

    def _path(self, position: int, role: str) -> str:
        return str(self._dataset.index[role].iloc[position])

    def _without_class(self, part: str, positions: Sequence[int]) -> Iterator[Problem]:
        codes = sorted({code for position in positions for code in self._of(position).codes})
        if all(self._dataset.label_table[code] < 0 for code in codes):
            held = ", ".join(str(code) for code in codes[:5] if code != UNLABELLED)
            why = (
                f"their labels hold only {held}, which is ignored"
                if held
                else ("no pixel has a label: no polygon covers it, or the label map calls it nodata")
            )
            yield Problem(
                "unusable",
                self._path(positions[0], "label"),
                f"{self._name}: no pixel of its {len(positions)} {part} tiles has a class, "
                f"{why}; correct the labels, or 'classes' and 'ignore' in the protocol file",
            )

    def _classes(self, positions: Sequence[int]) -> set[int]:
        """Class ids in the labels of some tiles."""
        codes = {code for position in positions for code in self._of(position).codes}
        return {int(self._dataset.label_table[code]) for code in codes if self._dataset.label_table[code] >= 0}

    def _named(self, ids: Iterable[int]) -> str:
        names = [self._dataset.classes[i].name for i in sorted(ids)]
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    def _nothing_in_common(self) -> Iterator[Problem]:
        source, target = self._classes(self._labelled.tolist()), self._classes(self._split.target.tolist())
        if source and target and source.isdisjoint(target):
            yield Problem(
                "unusable",
                self._path(int(self._split.target[0]), "label"),
                f"{self._name}: source and target have no class in common: the source's training tiles have "
                f"{self._named(source)}, the target {self._named(target)}; correct the labels, or 'classes' in the "
                "protocol file",
            )

    def _classes_never_learnt(self) -> Iterator[str]:
        unseen = self._classes(self._split.target.tolist()) - self._classes(self._labelled.tolist())
        if unseen:
            yield (
                f"{self._name}: {self._named(unseen)} occur in the target and in no training tile; no method can learn "
                "them, and they count in its scores"
            )

    def _same_site(self) -> Iterator[str]:
        outlines = self._dataset.index.geometry
        source, target = outlines.iloc[self._source()].dropna(), outlines.iloc[self._split.target].dropna()
        if source.empty or target.empty:
            return
        tree = shapely.STRtree(source.to_numpy())
        tiles, others = tree.query(target.to_numpy(), predicate="intersects")
        shared = shapely.area(shapely.intersection(target.to_numpy()[tiles], source.to_numpy()[others]))
        share = np.bincount(tiles, weights=shared, minlength=len(target)) / shapely.area(target.to_numpy())
        alike = int((share > _SHARED).sum())
        if alike:
            yield (
                f"{self._name}: {alike} of {len(target)} target tiles ({100 * alike / len(target):.3g} %) lie where "
                "source tiles lie; scores say nothing about unseen places there"
            )

    @cached_property
    def _alike(self) -> list[list[int]]:
        """Tiles that show one image: copies, links and links to links, and the same pixels packed otherwise."""
        sampled: dict[str, dict[str, list[int]]] = {}
        for position in [*self._source(), *self._split.target.tolist()]:
            content = self._of(position).image
            # MATLAB files have no sample.
            stored = self._dataset.stored_at(self._dataset.index.iloc[position], "image").name
            sample = self._dataset.samples.get(stored) or content
            sampled.setdefault(sample, {}).setdefault(content, []).append(position)
        found: list[list[int]] = []
        for packed in sampled.values():
            groups = list(packed.values())
            if len(groups) > 1:
                seen: dict[bytes, list[int]] = {}
                for members in groups:
                    seen.setdefault(self._pixels(members[0]), []).extend(members)
                groups = list(seen.values())
            found += [members for members in groups if len(members) > 1 and not self._is_blank(members[0])]
        return found

    def _pixels(self, position: int) -> bytes:
        pixels, _ = self._dataset.image_at(self._dataset.index.iloc[position])
        return hashlib.blake2b(pixels.astype(np.float64).tobytes(), digest_size=16).digest()

    def _on_both_sides(self) -> Iterator[Problem]:
        """Tiles without anything to see may be alike."""
        held_out, target = set(self._split.held_out.tolist()), set(self._split.target.tolist())
        for members in self._alike:
            first = members[0]
            for other in members[1:]:
                if other in target and first not in target:
                    said = "a target tile and a source tile; what trains must not test"
                elif (other in held_out) != (first in held_out):
                    said = "a held-out and a training tile of the source; what trains must not select the model"
                else:
                    continue
                path = self._path(other, "image")
                yield Problem(
                    "twice",
                    path,
                    f"{self._name}: {path} is the same image as {self._path(first, 'image')}, {said}, so leave one of "
                    "them out of the protocol",
                )

    def _twice_on_one_side(self) -> Iterator[str]:
        target = set(self._split.target.tolist())
        pairs = [
            (members[0], other)
            for members in self._alike
            for other in members[1:]
            if (members[0] in target) == (other in target)
        ]
        if pairs:
            first, other = (self._path(position, "image") for position in pairs[0])
            yield (
                f"{self._name}: {len(pairs)} tiles show the same image as another on their side and count twice, for "
                f"example {other}, which is {first}"
            )

    def _is_blank(self, position: int) -> bool:
        pixels, _ = self._dataset.image_at(self._dataset.index.iloc[position])
        return bool((pixels == pixels[:, :1, :1]).all())


def examine(protocols: Iterable[Protocol], root: Path, *, all_must_run: bool) -> tuple[list[Problem], list[str]]:
    """Name what keeps protocols from running on an archive whose tiles are sound one by one, and what is to be noted.

    Args:
        protocols: Protocols about the archive.
        root: Its folder.
        all_must_run: Whether a protocol for which there are no tiles is a problem, as it is for whoever wrote it;
            a partial archive is sound without the others.

    Raises:
        DataError: If a file cannot be read.
    """
    opened: dict[str, TileDataset] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for protocol in protocols:
        if protocol.group not in opened:
            opened[protocol.group] = open_dataset(protocol.file, root)
        dataset = opened[protocol.group]
        try:
            dataset.require(protocol.transfer)
            split = split_tiles(protocol, dataset.index, HELD_OUT_FRACTION, dataset.places)
            # Some model can see the target's bands as they are; whether one can that is to run, its run says.
            shown = crossed(dataset, protocol, split.target.tolist(), "wavelengths")
        except (ProtocolError, DataError) as error:
            if all_must_run:
                problems.append(Problem("unusable", str(root), str(error)))
            continue
        parts = Parts(protocol.name, shown, split, dataset.checksums(split.tiles.tolist()))
        found = list(parts.problems())
        problems += found
        notes += [] if found else parts.notes()
    return problems, notes
