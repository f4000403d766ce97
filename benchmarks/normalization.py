"""What standardizing the bands does to a pixel forest on simulated archives: raw, by tile and by domain.

python -m spectral_tl_bench.benchmarks.normalization [--draws 0 1 2 3 4] [--folder ARCHIVES]

On real tiles standardization harms such a forest. Where it helps, the shift is one of radiometry alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from spectral_tl_bench.config.protocols import Protocol
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.sensors.classes import IGNORE_INDEX

from .realism import arguments, transfers

PIXELS = 8000
SCALINGS = ("raw", "tile", "domain")


def sample(dataset: TileDataset, positions: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Spectra of random pixels under each scaling, scalings x pixels x bands, and their class ids."""
    raw, scaled, ids = [], [], []
    for position in positions:
        tile = dataset.read(int(position))
        image = np.asarray(tile["image"], dtype=np.float64).reshape(len(dataset.sensor.bands), -1)
        mask = np.asarray(tile["mask"]).ravel()
        chosen = rng.permutation(np.flatnonzero(mask != IGNORE_INDEX))[: -(-PIXELS // len(positions))]
        raw.append(image[:, chosen].T)
        scaled.append(
            ((image - image.mean(axis=1, keepdims=True)) / (image.std(axis=1, keepdims=True) + 1e-6)).T[chosen]
        )
        ids.append(mask[chosen])
    spectra = np.concatenate(raw)
    by_domain = (spectra - spectra.mean(axis=0)) / spectra.std(axis=0)
    return np.stack((spectra, np.concatenate(scaled), by_domain)), np.concatenate(ids)


def mean_iou(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean IoU in percent over the classes that occur in the truth."""
    ious = [np.sum((truth == c) & (predicted == c)) / np.sum((truth == c) | (predicted == c)) for c in np.unique(truth)]
    return 100 * float(np.mean(ious))


def measure(dataset: TileDataset, protocol: Protocol) -> dict[str, float]:
    """Mean IoU on held-out source blocks and on the target, under each scaling."""
    rng = np.random.default_rng(0)
    source, target = (
        np.flatnonzero(domain.select(dataset.index)) for domain in (protocol.transfer.source, protocol.transfer.target)
    )
    blocks = dataset.index["block"].to_numpy()[source]
    held_out = np.isin(blocks, rng.permutation(np.unique(blocks))[: max(1, len(np.unique(blocks)) // 4)])
    sets = [sample(dataset, part, rng) for part in (source[~held_out], source[held_out], target)]
    result = {}
    for number, scaling in enumerate(SCALINGS):
        forest = RandomForestClassifier(20, min_samples_leaf=3, random_state=0).fit(sets[0][0][number], sets[0][1])
        for side, (spectra, ids) in zip(("source", "target"), sets[1:], strict=True):
            result[f"{side} {scaling}"] = mean_iou(ids, forest.predict(spectra[number]))
    return result


def main() -> None:
    """Print a row for each transfer and draw, and the means."""
    chosen = arguments(__doc__)
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        for draw, protocol, dataset in transfers(folder, chosen.draws, chosen.generation):
            rows[f"{draw} {protocol.name}"] = measure(dataset, protocol)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.loc["mean"] = table.mean()
    print(table.round(1).to_string())  # noqa: T201


if __name__ == "__main__":
    main()
