"""Realism card: statistics that say how close the tiles of an archive are to real ones, and how far domains differ.

The statistics describe labelled tiles as a map maker meets them: how many classes a tile has, how much of the variation
lies between tiles, how much of it classes explain, how smooth labels and bands are, and how far a target's bands and
class shares lie from the source's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spectral_tl_bench.datasets.shift import ALL_TARGETS, SOURCE, protocol_domains
from spectral_tl_bench.simulation.marker import read_marker

if TYPE_CHECKING:
    from rich.table import Table

    from spectral_tl_bench.config.protocols import Protocol
    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.sensors import Sensor

NIR = (780.0, 900.0)
"""Near infrared, nm: the band whose autocorrelation is measured."""

_FEWEST_PIXELS = 100
"""Pixels of a class in a domain without which its spread there is not measured."""

DOMAIN_STATISTICS = {
    "classes": "classes in a tile",
    "top_share": "share of a tile's main class",
    "between_within": "band SD between / within tiles",
    "rarest": "rarest class",
    "commonest": "commonest class",
    "explained": "band variance explained by class",
    "kurtosis": "kurtosis within classes",
    "lag_1": "NIR autocorrelation, 1 px",
    "lag_8": "NIR autocorrelation, 8 px",
    "label_smoothness": "neighbours with equal label",
}
"""Statistics of one domain by column; SD is standard deviation, the kurtosis of a normal distribution is 3."""

SHIFT_STATISTICS = {
    "band_shift": "shift of band means, SD",
    "class_band_shift": "shift within classes, SD",
    "label_shift": "shift of class shares",
}
"""Statistics of a target against the source, undefined for the source: mean absolute differences in standard deviations
of the source, and the total variation distance of class shares."""

REFERENCE = pd.DataFrame(
    {
        "classes": [5.699, 4.189, 4.108],
        "top_share": [0.529, 0.697, 0.833],
        "between_within": [0.881, 0.965, 1.890],
        "rarest": [0.001, 0.008, 0.003],
        "commonest": [0.458, 0.411, 0.335],
        "explained": [0.236, 0.336, 0.448],
        "kurtosis": [5.266, 6.400, 3.849],
        "lag_1": [0.916, 0.889, 0.894],
        "lag_8": [0.479, 0.420, 0.358],
        "label_smoothness": [0.873, 0.892, 0.937],
        "band_shift": [np.nan, 0.141, 0.315],
        "class_band_shift": [np.nan, 0.836, 0.651],
        "label_shift": [np.nan, 0.493, 0.307],
    },
    index=["real: lowland (source)", "real: highland", "real: midland"],
)
"""The card of 306 real tiles, measured with :func:`measure_realism`.

Harmonized Landsat Sentinel-2 reflectance, 7 bands, 128 x 128 px, with ESA WorldCover labels in 7 classes. The domains
are elevations below 150 m, above 400 m, and between.
"""


@dataclass(frozen=True)
class RealismCard:
    """What :func:`measure_realism` measured.

    Attributes:
        protocol: Name of the protocol.
        title: Its heading.
        simulated: Whether the tiles are simulated.
        table: A row for each domain (the source, each target sub-domain, all targets), a column for each of
            :data:`DOMAIN_STATISTICS` and :data:`SHIFT_STATISTICS`; NaN where a statistic is undefined.
    """

    protocol: str
    title: str
    simulated: bool
    table: pd.DataFrame


@dataclass(frozen=True)
class _Moments:
    """Pixels, tiles and sums of one domain.

    Attributes:
        pixels: Labelled pixels by class, K.
        sums: Sums of powers 1 to 4 of the bands by class, 4 x K x C, about a common centre.
        tile_means: Band means of each tile, N x C.
        tile_variances: Band variances of each tile, N x C.
        histograms: Labelled pixels of each tile by class, N x K.
        smoothness: Share of neighbours with equal label, by tile.
        autocorrelation: NIR autocorrelation of each tile at 1 and 8 px, N x 2.
    """

    pixels: np.ndarray
    sums: np.ndarray
    tile_means: np.ndarray
    tile_variances: np.ndarray
    histograms: np.ndarray
    smoothness: np.ndarray
    autocorrelation: np.ndarray

    @staticmethod
    def joined(parts: Sequence[_Moments]) -> _Moments:
        """The moments of several domains together."""
        return _Moments(
            sum(part.pixels for part in parts),  # type: ignore[arg-type]
            sum(part.sums for part in parts),  # type: ignore[arg-type]
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("tile_means", "tile_variances", "histograms", "smoothness", "autocorrelation")
            ),
        )


def measure_realism(
    dataset: TileDataset, protocol: Protocol, *, tiles_per_domain: int = 64, seed: int = 0
) -> RealismCard:
    """Measure the card of a protocol's tiles.

    Args:
        dataset: The protocol's archive.
        protocol: Says which tiles are source and which target.
        tiles_per_domain: Most tiles read from one domain; drawn at random where it has more.
        seed: Seed of that draw.

    Raises:
        ProtocolError: If source or target select no tile.
        DataError: If a tile cannot be read.
    """
    dataset.require(protocol.transfer)
    rng = np.random.default_rng(seed)
    centre: np.ndarray | None = None
    moments: dict[str, _Moments] = {}
    for name, positions in protocol_domains(dataset, protocol).items():
        if len(positions) > tiles_per_domain:
            positions = np.sort(rng.choice(positions, tiles_per_domain, replace=False))
        if centre is None:
            first = np.asarray(dataset.read(int(positions[0]))["image"], dtype=np.float64)
            centre = first.mean(axis=(1, 2))
        moments[name] = _measure(dataset, positions.tolist(), centre)
    targets = [name for name in moments if name != SOURCE]
    if len(targets) > 1:
        moments[ALL_TARGETS] = _Moments.joined([moments[name] for name in targets])
    rows = {
        name: {**_domain_statistics(part), **({} if name == SOURCE else _shift_statistics(moments[SOURCE], part))}
        for name, part in moments.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*DOMAIN_STATISTICS, *SHIFT_STATISTICS])
    return RealismCard(protocol.name, protocol.title, read_marker(dataset.root) is not None, table)


def render(card: RealismCard) -> Table:
    """Return a card as a table for the terminal: a row for each statistic, beside the range of real tiles."""
    from rich.table import Table

    heading = f"{card.title} ({card.protocol})"
    table = Table(title=f"SIMULATED: {heading}" if card.simulated else heading, title_justify="left")
    table.add_column("statistic")
    targets = card.table.drop(index=[SOURCE, ALL_TARGETS], errors="ignore")
    for column in (SOURCE, f"{len(targets)} target sub-domains", "real tiles, 3 domains"):
        table.add_column(column, justify="right")
    for name, label in (DOMAIN_STATISTICS | SHIFT_STATISTICS).items():
        source = card.table.loc[[SOURCE], name]
        table.add_row(label, *(_range(values) for values in (source, targets[name], REFERENCE[name])))
    return table


def _range(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "-"
    low, high = f"{known.min():.2f}", f"{known.max():.2f}"
    return low if low == high else f"{low} to {high}"


def near_infrared(sensor: Sensor) -> int:
    """Position of the band that is closest to the near infrared's centre."""
    centre = sum(NIR) / 2
    return int(np.argmin([abs(band.wavelength - centre) for band in sensor.bands]))


def _measure(dataset: TileDataset, positions: Sequence[int], centre: np.ndarray) -> _Moments:
    classes, nir = len(dataset.classes), near_infrared(dataset.sensor)
    sums = np.zeros((4, classes, len(dataset.sensor.bands)))
    columns: dict[str, list[np.ndarray | float]] = {name: [] for name in ("mean", "var", "counts", "smooth", "auto")}
    for position in positions:
        sample = dataset.read(position)
        image = np.asarray(sample["image"], dtype=np.float64)
        mask = np.asarray(sample["mask"])
        labelled = mask < classes
        values = (image[:, labelled] - centre[:, None]).T
        indicator = np.eye(classes)[mask[labelled]]
        for power in range(4):
            sums[power] += indicator.T @ values ** (power + 1)
        columns["mean"].append(image.mean(axis=(1, 2)))
        columns["var"].append(image.var(axis=(1, 2)))
        columns["counts"].append(indicator.sum(axis=0))
        columns["smooth"].append(_label_smoothness(mask, labelled))
        columns["auto"].append(np.array([_autocorrelation(image[nir], lag) for lag in (1, 8)]))
    means, variances, histograms, smoothness, autocorrelation = (np.array(values) for values in columns.values())
    return _Moments(histograms.sum(axis=0), sums, means, variances, histograms, smoothness, autocorrelation)


def _label_smoothness(mask: np.ndarray, labelled: np.ndarray) -> float:
    """Share of horizontally or vertically neighbouring labelled pixels whose labels are equal."""
    pairs = equal = 0
    for here, there in (((slice(None), slice(1, None)), (slice(None), slice(-1))), ((slice(1, None),), (slice(-1),))):
        both = labelled[here] & labelled[there]
        pairs += int(both.sum())
        equal += int((mask[here] == mask[there])[both].sum())
    return equal / pairs if pairs else np.nan


def _autocorrelation(band: np.ndarray, lag: int) -> float:
    """Mean autocorrelation along rows and columns."""
    if min(band.shape) <= lag or band.std() == 0:
        return np.nan
    centred = (band - band.mean()) / band.std()
    along_rows = (centred[:, lag:] * centred[:, :-lag]).mean()
    along_columns = (centred[lag:] * centred[:-lag]).mean()
    return float((along_rows + along_columns) / 2)


def _class_moments(part: _Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (about the common centre), variance and kurtosis of the bands by class, each K x C; NaN for rare classes."""
    count = np.where(part.pixels >= _FEWEST_PIXELS, part.pixels, np.nan)[:, None]
    m1, m2, m3, m4 = part.sums / count
    variance = m2 - m1**2
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return m1, variance, np.divide(fourth, variance**2, out=np.full_like(fourth, np.nan), where=variance > 0)


def _domain_statistics(part: _Moments) -> dict[str, float]:
    labelled = part.histograms[part.histograms.sum(axis=1) > 0]
    shares = part.pixels / part.pixels.sum()
    present = shares[shares > 0]
    within = np.sqrt(part.tile_variances.mean(axis=0))
    mean, variance, kurtosis = _class_moments(part)
    known = np.isfinite(mean[:, 0])
    weights = (part.pixels[known] / part.pixels[known].sum())[:, None]
    residual = (weights * variance[known]).sum(axis=0)
    centre = (weights * mean[known]).sum(axis=0)
    total = residual + (weights * (mean[known] - centre) ** 2).sum(axis=0)
    return {
        "classes": float((labelled > 0).sum(axis=1).mean()),
        "top_share": float((labelled.max(axis=1) / labelled.sum(axis=1)).mean()),
        "between_within": float(np.mean(part.tile_means.std(axis=0)[within > 0] / within[within > 0])),
        "rarest": float(present.min()),
        "commonest": float(present.max()),
        "explained": float(np.mean(1 - residual[total > 0] / total[total > 0])),
        "kurtosis": float(np.nanmedian(kurtosis)),
        "lag_1": float(np.nanmean(part.autocorrelation[:, 0])),
        "lag_8": float(np.nanmean(part.autocorrelation[:, 1])),
        "label_smoothness": float(np.nanmean(part.smoothness)),
    }


def _shift_statistics(source: _Moments, target: _Moments) -> dict[str, float]:
    pixels = source.pixels.sum()
    mean = source.sums[0].sum(axis=0) / pixels
    spread = np.sqrt(source.sums[1].sum(axis=0) / pixels - mean**2)
    other = target.sums[0].sum(axis=0) / target.pixels.sum()
    class_mean, class_variance, _ = _class_moments(source)
    class_other, _, _ = _class_moments(target)
    within = np.abs(class_other - class_mean) / np.sqrt(np.where(class_variance > 0, class_variance, np.nan))
    shares = [part.pixels / part.pixels.sum() for part in (source, target)]
    return {
        "band_shift": float(np.mean(np.abs(other - mean)[spread > 0] / spread[spread > 0])),
        "class_band_shift": float(np.nanmean(within)) if np.isfinite(within).any() else np.nan,
        "label_shift": float(np.abs(shares[0] - shares[1]).sum() / 2),
    }
