"""The realism card against hand-computed numbers, scipy, and real tiles."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from scipy.stats import kurtosis

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.config.domains import Domain, Transfer
from spectral_tl_bench.config.protocols import Protocol, ProtocolFile, load_protocols, protocols_of
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.datasets.realism import REFERENCE, measure_realism

HLS = Path(os.environ.get("SPECTRAL_TL_BENCH_HLS", Path(__file__).parents[3] / "shared" / "data" / "hls_worldcover"))
BANDS = {"coastal": 443, "blue": 490, "green": 560, "red": 660, "nir": 840, "swir1": 1610, "swir2": 2190}
SIZE = 16


def write_pair(root, name, image, codes):
    for folder, array in (("image", image.astype("uint16")), ("label", codes[None].astype("uint8"))):
        path = root / "tr" / folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": len(array), "dtype": array.dtype}
        with rasterio.open(path, "w", **profile) as file:
            file.write(array)


def card(root, **options):
    file = load_protocols("whu_region/s2t")[0].file
    sides = {"source": Domain.model_validate({"side": "S"}), "target": Domain.model_validate({"side": "T"})}
    return measure_realism(
        WHUOHS(root), Protocol(name="test", file=file, transfer=Transfer(by="city", **sides)), **options
    )


@pytest.fixture
def noise(tmp_path):
    """Two source tiles of noise, each half class 1, half class 2; one target tile, a quarter of it class 1."""
    rng = np.random.default_rng(0)
    halves, quarter = np.ones((SIZE, SIZE)), np.full((SIZE, SIZE), 2)
    halves[:, SIZE // 2 :] = 2
    quarter[: SIZE // 2, : SIZE // 2] = 1
    images = [rng.gamma(4, 400, (32, SIZE, SIZE)).round() + 500 * number for number in range(3)]
    for name, image, codes in zip(("S1_0001", "S1_0002", "T1_0001"), images, (halves, halves, quarter), strict=True):
        write_pair(tmp_path, name, image, codes)
    return tmp_path, images, (halves, halves, quarter)


def test_statistics_are_those_of_the_pixels(noise):
    root, images, masks = noise
    source = card(root).table.loc["source"]
    x = np.concatenate([image.reshape(32, -1).T for image in images[:2]]) / 1e4
    y = np.concatenate([mask.ravel() for mask in masks[:2]])
    tiles = np.stack(images[:2]).reshape(2, 32, -1) / 1e4
    assert source["classes"] == 2
    assert source["top_share"] == source["rarest"] == source["commonest"] == 0.5
    expected = np.mean(tiles.mean(axis=2).std(axis=0) / np.sqrt(tiles.var(axis=2).mean(axis=0)))
    assert source["between_within"] == pytest.approx(expected, rel=1e-4)
    within = sum(x[y == label].var(axis=0) / 2 for label in (1, 2))
    assert source["explained"] == pytest.approx(np.mean(1 - within / x.var(axis=0)), rel=1e-3)
    tails = np.median([kurtosis(x[y == label], fisher=False) for label in (1, 2)])
    assert source["kurtosis"] == pytest.approx(tails, rel=1e-3)
    # One border between two columns out of 15, none between rows.
    assert source["label_smoothness"] == pytest.approx(1 - SIZE / (2 * SIZE * (SIZE - 1)))
    assert abs(source["lag_1"]) < 0.15


def test_shift_is_the_target_s_against_the_source(noise):
    root, images, _ = noise
    target = card(root).table.loc["Jilin"]
    x = np.concatenate([image.reshape(32, -1).T for image in images[:2]]) / 1e4
    other = images[2].reshape(32, -1).T / 1e4
    assert target["label_shift"] == pytest.approx(0.25)
    assert target["band_shift"] == pytest.approx(np.mean(abs(other.mean(0) - x.mean(0)) / x.std(0)), rel=1e-4)


def test_a_gradient_is_correlated_with_itself(tmp_path):
    ramp = np.broadcast_to(np.arange(SIZE) * 100.0, (32, SIZE, SIZE))
    for name in ("S1_0001", "T1_0001"):
        write_pair(tmp_path, name, ramp, np.ones((SIZE, SIZE)))
    table = card(tmp_path).table
    step = np.arange(SIZE) - np.arange(SIZE).mean()
    along_rows = (step[1:] * step[:-1]).mean() / step.var()
    assert table.loc["source", "lag_1"] == pytest.approx((along_rows + 1) / 2)
    assert table.loc["Jilin", "band_shift"] == 0
    assert table["label_smoothness"].eq(1).all()


def test_no_more_tiles_than_asked(noise):
    table = card(noise[0], tiles_per_domain=1).table
    assert table.loc["source", "between_within"] == 0


def test_the_command_prints_and_draws_the_card_and_says_simulated(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", "card", "mts12_region/n2s", "--out", str(tmp_path)])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "SIMULATED" in shown
    assert "real tiles" in shown
    table = pd.read_csv(tmp_path / "mts12_region-n2s.csv", index_col="domain")
    assert set(REFERENCE.columns) == set(table.columns)
    with rasterio.open(tmp_path / "mts12_region-n2s.png") as picture:
        assert picture.read().std() > 5


@pytest.mark.slow
@pytest.mark.skipif(not (HLS / "tiles.csv").is_file(), reason="the HLS tiles are not there")
def test_the_reference_figures_are_those_of_the_real_tiles():
    file = ProtocolFile.model_validate(
        {
            "name": "hls",
            "title": "Lowland to elsewhere",
            "dataset": "tiles",
            "sensor": {"name": "hls", "bands": BANDS},
            "classes": [{"code": c, "name": f"c{c}", "color": "#000000"} for c in (10, 20, 30, 40, 50, 60, 80)],
            "ignore": "rest",
            "source": {"domain": "lowland"},
            "target": {"domain": ["highland", "midland"]},
            "by": "domain",
        }
    )
    measured = measure_realism(open_dataset(file, HLS), protocols_of(file)[0], tiles_per_domain=1000)
    assert not measured.simulated
    rows = measured.table.loc[["source", "highland", "midland"]]
    np.testing.assert_allclose(rows.to_numpy(), REFERENCE[rows.columns].to_numpy(), atol=6e-4)
