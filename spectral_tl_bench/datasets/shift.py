"""How far source and target of a protocol are apart, in spectra and in class shares, before any model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from spectral_tl_bench.config.domains import attribute_column
from spectral_tl_bench.config.protocols import Protocol
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.simulation.marker import read_marker
from spectral_tl_bench.utils.errors import DataError, ProtocolError

if TYPE_CHECKING:
    from rich.table import Table

SOURCE = "source"
ALL_TARGETS = "all targets"

_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class ShiftReport:
    """What :func:`measure_shift` found.

    Attributes:
        protocol: Name of the protocol.
        title: Its heading.
        simulated: Whether the tiles are simulated, so that the figures say nothing about a real sensor.
        sensor: The sensor whose bands are compared.
        classes: Classes in the order of their ids.
        table: One row for each target, class and band: ``data`` (simulated or real), ``target``, ``class``,
            ``band``, ``wavelength`` (nm), ``date``, ``distance`` (1-D Wasserstein distance, in reflectance),
            ``source_median``, ``target_median``. A class that one side lacks has no row.
        spectra: One row for each domain, class and band: ``domain``, ``class``, ``band``, ``wavelength``, ``date``,
            ``q25``, ``median``, ``q75`` (reflectance), ``pixels`` (how many were sampled).
        priors: One row for each domain and class: ``domain``, ``class``, ``share`` of the labelled pixels.
        divergence: One row for each target: ``target`` and ``jensen_shannon``, the divergence of its class shares from
            the source's in bits (0 equal, 1 no class in common).

    Domains are ``source``, the target sub-domains where there are several, and ``all targets``. In the spectra of all
    targets every sub-domain weighs alike, in their class shares every tile does.
    """

    protocol: str
    title: str
    simulated: bool
    sensor: Sensor
    classes: tuple[LandClass, ...]
    table: pd.DataFrame
    spectra: pd.DataFrame
    priors: pd.DataFrame
    divergence: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Return one row for each target.

        Returns:
            ``data`` (simulated or real), ``target``, ``distance`` (mean over classes and bands), ``jensen_shannon``.
        """
        mean = self.table.groupby("target", sort=False)["distance"].mean()
        summary = self.divergence.assign(distance=self.divergence["target"].map(mean))
        summary["data"] = _origin(self.simulated)
        return summary[["data", "target", "distance", "jensen_shannon"]]


def measure_shift(
    dataset: TileDataset,
    protocol: Protocol,
    *,
    pixels_per_class: int = 500,
    tiles_per_domain: int = 64,
    seed: int = 0,
) -> ShiftReport:
    """Compare the source of a protocol with each of its targets.

    Args:
        dataset: The protocol's archive.
        protocol: Says which tiles are source and which target.
        pixels_per_class: Most pixels of a class that represent it in one domain.
        tiles_per_domain: Most tiles that are read from one domain; drawn at random where it has more.
        seed: Seed of both draws.

    Raises:
        ProtocolError: If source or target select no tile.
        DataError: If a tile cannot be read, source and targets have no class in common, or the files do not tell them
            apart.
    """
    dataset.require(protocol.transfer)
    domains = protocol_domains(dataset, protocol)
    rng = np.random.default_rng(seed)
    samples: dict[str, list[np.ndarray]] = {}
    counts: dict[str, np.ndarray] = {}
    for name, positions in domains.items():
        samples[name], counts[name] = _sample(dataset, positions, pixels_per_class, tiles_per_domain, rng)
    targets = [name for name in domains if name != SOURCE]
    samples[ALL_TARGETS] = [
        _at_most(np.concatenate(c), pixels_per_class, rng) for c in zip(*(samples[t] for t in targets), strict=True)
    ]
    # Sub-domains count by their tiles, not by how many of these were read.
    weights = np.array([len(domains[t]) / min(len(domains[t]), tiles_per_domain) for t in targets])
    counts[ALL_TARGETS] = np.sum([w * counts[t] for w, t in zip(weights, targets, strict=True)], axis=0)
    shares = {name: count / max(count.sum(), 1) for name, count in counts.items()}
    targets = [*targets, ALL_TARGETS] if len(targets) > 1 else [ALL_TARGETS]
    distances = _distances(dataset, samples, targets)
    if distances.empty:
        raise DataError(f"source and targets of {protocol.name} have no class in common; check the protocol's domains")
    simulated = read_marker(dataset.root) is not None
    distances.insert(0, "data", _origin(simulated))
    names = [c.name for c in dataset.classes]
    return ShiftReport(
        protocol=protocol.name,
        title=protocol.title,
        simulated=simulated,
        sensor=dataset.sensor,
        classes=dataset.classes,
        table=distances,
        spectra=_spectra(dataset, samples, [SOURCE, *targets]),
        priors=pd.DataFrame(
            [(name, c, s) for name in (SOURCE, *targets) for c, s in zip(names, shares[name], strict=True)],
            columns=["domain", "class", "share"],
        ),
        divergence=pd.DataFrame(
            [(t, float(jensenshannon(shares[SOURCE], shares[t], base=2) ** 2)) for t in targets],
            columns=["target", "jensen_shannon"],
        ),
    )


def render(report: ShiftReport) -> Table:
    """Return the summary of a report as a table for the terminal."""
    from rich.table import Table

    heading = f"{report.title} ({report.protocol})"
    table = Table(title=f"SIMULATED: {heading}" if report.simulated else heading, title_justify="left")
    table.add_column("target")
    table.add_column("Wasserstein distance, reflectance", justify="right")
    table.add_column("Jensen-Shannon divergence of class shares, bits", justify="right")
    for row in report.summary().itertuples():
        table.add_row(str(row.target), f"{row.distance:.4f}", f"{row.jensen_shannon:.3f}")
    return table


def _origin(simulated: bool) -> str:
    return "simulated" if simulated else "real"


def protocol_domains(dataset: TileDataset, protocol: Protocol) -> dict[str, np.ndarray]:
    """Positions in the index by domain: the source, then the target sub-domains by name.

    Raises:
        ProtocolError: If source or target select no tile, or the index lacks the sub-domains' column.
    """
    index, transfer = dataset.index, protocol.transfer
    source = np.flatnonzero(transfer.source.select(index))
    target = np.flatnonzero(transfer.target.select(index))
    for side, positions, domain in ((SOURCE, source, transfer.source), ("target", target, transfer.target)):
        if len(positions) == 0:
            raise ProtocolError(f"{protocol.name}: no tile is {side} ({domain}); check the archive with `data check`")
    by = attribute_column(index.columns, transfer.by)
    if by not in index.columns:
        raise ProtocolError(f"{protocol.name}: attribute {transfer.by!r} is not in the tile index")
    names = index[by].astype(str).to_numpy()[target]
    return {SOURCE: source} | {name: target[names == name] for name in sorted(set(names))}


def _at_most(pixels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return pixels if len(pixels) <= count else pixels[rng.choice(len(pixels), count, replace=False)]


def _sample(
    dataset: TileDataset, positions: np.ndarray, pixels: int, tiles: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw pixels of each class (pixels x bands, one array a class) and count all labelled pixels by class."""
    chosen = np.sort(_at_most(positions, tiles, rng))
    # A class that fills one tile must not be known from that tile alone.
    per_tile = min(pixels, max(16, 8 * pixels // len(chosen)))
    found: list[list[np.ndarray]] = [[] for _ in dataset.classes]
    counts = np.zeros(len(dataset.classes))
    for position in chosen:
        sample = dataset.read(int(position))
        spectra = np.asarray(sample["image"]).reshape(len(dataset.sensor.bands), -1)
        mask = np.asarray(sample["mask"]).ravel()
        counts += np.bincount(mask, minlength=256)[: len(counts)]
        for class_id in np.flatnonzero(np.bincount(mask, minlength=256)[: len(counts)]):
            where = _at_most(np.flatnonzero(mask == class_id), per_tile, rng)
            found[class_id].append(spectra[:, where].T)
    empty = np.empty((0, len(dataset.sensor.bands)), dtype=np.float32)
    return [_at_most(np.concatenate([empty, *arrays]), pixels, rng) for arrays in found], counts


def _distances(dataset: TileDataset, samples: dict[str, list[np.ndarray]], targets: Sequence[str]) -> pd.DataFrame:
    rows = []
    for target in targets:
        for land, source, other in zip(dataset.classes, samples[SOURCE], samples[target], strict=True):
            if len(source) == 0 or len(other) == 0:
                continue
            medians = np.median(source, axis=0), np.median(other, axis=0)
            for channel, band in enumerate(dataset.sensor.bands):
                distance = wasserstein_distance(source[:, channel], other[:, channel])
                here = (float(medians[0][channel]), float(medians[1][channel]))
                rows.append((target, land.name, band.name, band.wavelength, band.date, float(distance), *here))
    columns = ["target", "class", "band", "wavelength", "date", "distance", "source_median", "target_median"]
    return pd.DataFrame(rows, columns=columns)


def _spectra(dataset: TileDataset, samples: dict[str, list[np.ndarray]], domains: Sequence[str]) -> pd.DataFrame:
    rows = []
    for domain in domains:
        for land, pixels in zip(dataset.classes, samples[domain], strict=True):
            if len(pixels) == 0:
                continue
            quartiles = np.quantile(pixels, _QUARTILES, axis=0)
            for channel, band in enumerate(dataset.sensor.bands):
                values = map(float, quartiles[:, channel])
                rows.append((domain, land.name, band.name, band.wavelength, band.date, *values, len(pixels)))
    columns = ["domain", "class", "band", "wavelength", "date", "q25", "median", "q75", "pixels"]
    return pd.DataFrame(rows, columns=columns)
