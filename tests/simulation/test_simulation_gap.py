"""The simulated archives are hard in the right way: a pixel classifier works at home and fails abroad."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datasets import dataset_class
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.simulation import simulate_archive

# One process makes the archives once for all tests of this file.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("simulation gap")]

PROTOCOLS = [p for group in ("whu_region", "dfc_season", "mts12_region") for p in load_protocols(group)]
SCALE = {"whuohs": 0.5, "dfc2020": 0.7, "mts12": 0.7}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated")
    archives = {p.file.dataset: p.file.ignore for p in PROTOCOLS}
    return {
        name: dataset_class(name)(simulate_archive(name, root / name, tiles=SCALE[name]), ignore=ignore)
        for name, ignore in archives.items()
    }


def draw(dataset, positions, count, rng):
    """Spectra (pixels x bands) and class ids of random pixels of some tiles."""
    spectra, ids = [], []
    for position in positions:
        sample = dataset.read(int(position))
        mask = sample["mask"].numpy().ravel()
        chosen = rng.permutation(np.flatnonzero(mask != IGNORE_INDEX))[: -(-count // len(positions))]
        spectra.append(sample["image"].numpy().reshape(len(dataset.sensor.bands), -1)[:, chosen].T)
        ids.append(mask[chosen])
    return np.concatenate(spectra), np.concatenate(ids)


def mean_iou(truth, found):
    ious = [np.sum((truth == c) & (found == c)) / np.sum((truth == c) | (found == c)) for c in np.unique(truth)]
    return 100 * float(np.mean(ious))


def brightness_removed(spectra, dates):
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(spectra, dates, axis=1)]
    return np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def scores(datasets):
    """Protocol to mean IoU of a random forest: on held-out source, on target, on target by spectral shape alone."""
    result = {}
    for protocol in PROTOCOLS:
        dataset, rng = datasets[protocol.file.dataset], np.random.default_rng(0)
        index = dataset.index
        source = np.flatnonzero(protocol.transfer.source.select(index))
        target = np.flatnonzero(protocol.transfer.target.select(index))
        blocks = index["block"].to_numpy()
        names = rng.permutation(np.unique(blocks[source]))
        away = np.isin(blocks[source], names[: len(names) // 4])
        train = draw(dataset, source[~away], 7000, rng)
        home, abroad = draw(dataset, source[away], 6000, rng), draw(dataset, target, 6000, rng)
        dates = len({band.date for band in dataset.sensor.bands})
        forest = RandomForestClassifier(20, min_samples_leaf=3, random_state=0)
        forest.fit(*train)
        raw = [mean_iou(ids, forest.predict(spectra)) for spectra, ids in (home, abroad)]
        forest.fit(brightness_removed(train[0], dates), train[1])
        result[protocol.name] = (*raw, mean_iou(abroad[1], forest.predict(brightness_removed(abroad[0], dates))))
    return result


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
def test_every_class_occurs_in_source_and_target(datasets, protocol):
    dataset = datasets[protocol.file.dataset]
    for domain in (protocol.transfer.source, protocol.transfer.target):
        found = set()
        for position in np.flatnonzero(domain.select(dataset.index)):
            found |= set(np.unique(dataset.read(int(position))["mask"]).tolist())
        assert found - {IGNORE_INDEX} == set(range(len(dataset.classes)))


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_pixel_classifier_loses_ten_points_abroad_but_not_everything(scores, protocol):
    home, abroad, _ = scores[protocol]
    assert 30 < home < 75
    assert home - abroad >= 10
    assert abroad > 12


def test_ignoring_brightness_helps_abroad(scores):
    gains = {name: by_shape - raw for name, (_, raw, by_shape) in scores.items()}
    assert sum(gain > 1 for gain in gains.values()) >= 6, gains
