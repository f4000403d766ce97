"""What would spoil a run's figures without anyone noticing, looked for before anything trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from spectral_tl_bench.datamodules.splits import Split, labelled_tiles, split_tiles
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.contents import TileContent
from spectral_tl_bench.datasets.files import Problem
from spectral_tl_bench.datasets.raster import unknown_code_error, unknown_codes
from spectral_tl_bench.errors import DataError, ProtocolError
from spectral_tl_bench.protocols import Protocol
from spectral_tl_bench.spec import TrainingSpec

HELD_OUT_FRACTION: float = TrainingSpec.model_fields["held_out_fraction"].default


class Parts:
    """The tiles of a protocol with what their files hold."""

    def __init__(
        self,
        name: str,
        dataset: TileDataset,
        split: Split,
        contents: Mapping[str, TileContent],
        label_fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Put together what belongs together.

        Args:
            name: The protocol's name.
            dataset: The archive, every split.
            split: Which tiles train, select and test.
            contents: What each of these tiles holds, by its name.
            label_fraction: Share of the training tiles whose labels are used.
            seed: Fixes the choice of these.
        """
        self._name, self._dataset, self._split, self._contents = name, dataset, split, contents
        self._names = dataset.index["tile"].astype(str).to_numpy()
        self._labelled = labelled_tiles(split, dataset.index, label_fraction, seed)

    def problems(self) -> Iterator[Problem]:
        """Name label codes that the protocol does not know, parts without a class, and tiles on both sides."""
        for position in self._split.tiles.tolist():
            unknown = unknown_codes(self._of(position).codes, self._dataset.label_table)
            if unknown:
                path = self._path(position, "label")
                yield Problem("codes", path, str(unknown_code_error(path, unknown)))
        for part, positions in (
            ("source training", self._labelled),
            ("held-out source", self._split.held_out),
            ("target", self._split.target),
        ):
            yield from self._without_class(part, positions.tolist())
        yield from self._on_both_sides()

    def _of(self, position: int) -> TileContent:
        return self._contents[self._names[position]]

    def _path(self, position: int, role: str) -> str:
        return str(self._dataset.index[role].iloc[position])

    def _without_class(self, part: str, positions: Sequence[int]) -> Iterator[Problem]:
        codes = sorted({code for position in positions for code in self._of(position).codes})
        if all(self._dataset.label_table[code] < 0 for code in codes):
            found = ", ".join(map(str, codes[:5]))
            yield Problem(
                "unusable",
                self._path(positions[0], "label"),
                f"{self._name}: no pixel of its {len(positions)} {part} tiles has a class, their labels hold only "
                f"{found}, which is ignored; correct the labels, or 'classes' and 'ignore' in the protocol file",
            )

    def _on_both_sides(self) -> Iterator[Problem]:
        """Copies, links and links to links have one content; tiles without anything to see may be alike."""
        source = [*self._split.training.tolist(), *self._split.held_out.tolist()]
        by_image = {self._of(position).image: position for position in reversed(source)}
        for target in self._split.target.tolist():
            twin = by_image.get(self._of(target).image)
            if twin is None or self._is_blank(target):
                continue
            path = self._path(target, "image")
            yield Problem(
                "twice",
                path,
                f"{self._name}: {path} is the same image as {self._path(twin, 'image')}, a target tile and a source "
                "tile; what trains must not test, so leave one of them out of the protocol",
            )

    def _is_blank(self, position: int) -> bool:
        pixels, _ = self._dataset.image_at(self._dataset.index.iloc[position])
        return bool((pixels == pixels[:, :1, :1]).all())


def protocol_problems(protocols: Iterable[Protocol], root: Path, *, all_must_run: bool) -> Iterator[Problem]:
    """Name what keeps protocols from running on an archive whose tiles are sound one by one.

    Args:
        protocols: Protocols about the archive.
        root: Its folder.
        all_must_run: Whether a protocol for which there are no tiles is a problem, as it is for whoever wrote it;
            a partial archive is sound without the others.

    Raises:
        DataError: If a file cannot be read.
    """
    opened: dict[str, TileDataset] = {}
    for protocol in protocols:
        if protocol.group not in opened:
            opened[protocol.group] = open_dataset(protocol.file, root)
        dataset = opened[protocol.group]
        try:
            dataset.require(protocol.transfer)
            split = split_tiles(protocol, dataset.index, HELD_OUT_FRACTION, dataset.places)
        except (ProtocolError, DataError) as error:
            if all_must_run:
                yield Problem("unusable", str(root), str(error))
            continue
        yield from Parts(protocol.name, dataset, split, dataset.contents(split.tiles.tolist())).problems()
