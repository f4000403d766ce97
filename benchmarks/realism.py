"""The realism of simulated archives: the card of every transfer and draw beside that of real tiles.

python -m spectral_tl_bench.benchmarks.realism [--draws 0 1 2 3 4] [--folder ARCHIVES]

The first generation is drawn with --generation 1 and seeds in place of draws.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from spectral_tl_bench.config.protocols import Protocol, load_protocols
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.realism import REFERENCE, measure_realism
from spectral_tl_bench.simulation import simulate_archive

GROUPS = ("whu_region", "dfc_season", "mts12_region")
WIDTH = 0.05
"""Label smoothness and autocorrelation at 1 px may leave the range of real tiles by this much."""


def allowed() -> pd.DataFrame:
    """Range of each statistic: half the smallest to twice the largest real value; columns ``low`` and ``high``."""
    ranges = pd.DataFrame({"low": REFERENCE.min() / 2, "high": REFERENCE.max() * 2})
    for name in ("lag_1", "label_smoothness"):
        ranges.loc[name] = REFERENCE[name].min() - WIDTH, REFERENCE[name].max() + WIDTH
    return ranges


def drawn(name: str, folder: Path, draw: int, generation: int = 2) -> Path:
    """Folder of an archive's draw, written if it is not there."""
    root = folder / f"{name}-v{generation}-d{draw}"
    if not root.is_dir():
        if generation == 1:
            simulate_archive(name, root, seed=draw)
        else:
            simulate_archive(name, root, generation=generation, draw=draw)
    return root


def transfers(folder: Path, draws: Sequence[int], generation: int = 2) -> Iterator[tuple[int, Protocol, TileDataset]]:
    """Yield each draw and transfer with its archive, which is written if it is not there."""
    for draw in draws:
        for group in GROUPS:
            protocols = load_protocols(group)
            file = protocols[0].file
            dataset = open_dataset(file, drawn(file.dataset, folder, draw, generation))
            for protocol in protocols:
                yield draw, protocol, dataset


def arguments(description: str | None) -> argparse.Namespace:
    """Read the options that scripts about draws share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--draws", type=int, nargs="+", default=range(5))
    parser.add_argument("--generation", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the archives are kept; a temporary folder by default")
    return parser.parse_args()


def cards(folder: Path, draws: Sequence[int], generation: int = 2) -> Iterator[pd.DataFrame]:
    """Yield the source and the target of each transfer and draw, two rows a transfer."""
    for draw, protocol, dataset in transfers(folder, draws, generation):
        pair = measure_realism(dataset, protocol).table.iloc[[0, -1]]
        yield pair.set_axis([f"{draw} {protocol.name} {side}" for side in ("source", "target")])


def main() -> None:
    """Print the table, its range by statistic, and what lies outside of the range of real tiles."""
    chosen = arguments(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        table = pd.concat(cards(chosen.folder or Path(temporary), chosen.draws, chosen.generation))
    ranges = allowed()
    summary = ranges.assign(min=table.min(), median=table.median(), max=table.max(), real_min=REFERENCE.min())
    summary["real_max"] = REFERENCE.max()
    outside = (table < ranges["low"]) | (table > ranges["high"])
    summary["outside"] = outside.sum()
    print(table.round(3).to_string())  # noqa: T201
    print(summary.round(3).to_string())  # noqa: T201
    print("outside:", table.where(outside).stack().dropna().round(3).to_string(), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
