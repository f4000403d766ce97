import numpy as np
import pandas as pd
import pytest
import rasterio

from spectral_tl_bench.config.domains import Domain, Transfer
from spectral_tl_bench.config.protocols import Protocol, load_protocols
from spectral_tl_bench.datasets import dataset_class
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.datasets.shift import ALL_TARGETS, SOURCE, measure_shift, render
from spectral_tl_bench.datasets.shift_plot import draw_shift
from spectral_tl_bench.sensors.plotting import png
from spectral_tl_bench.simulation import simulate_archive
from spectral_tl_bench.utils.errors import DataError, ProtocolError

SIZE = 16


def write_pair(root, name, value, codes):
    """A tile of one value in every band, with a label map of columns of the given codes."""
    for folder, array in (
        ("image", np.full((32, SIZE, SIZE), value, dtype=np.uint16)),
        ("label", np.tile(np.repeat(codes, SIZE // len(codes)).astype(np.uint8), (1, SIZE, 1))),
    ):
        path = root / "tr" / folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path, "w", driver="GTiff", width=SIZE, height=SIZE, count=len(array), dtype=array.dtype
        ) as file:
            file.write(array)


def protocol(source, target, by):
    file = load_protocols("whu_region/s2t")[0].file
    transfer = Transfer(source=Domain.model_validate(source), target=Domain.model_validate(target), by=by)
    return Protocol(name="test", file=file, transfer=transfer)


@pytest.fixture
def known(tmp_path):
    """Source of 0.10 with classes 1 and 2 alike; T1 is 0.05 brighter, T2 has class 3 instead of 2."""
    write_pair(tmp_path, "S1_0001", 1000, [1, 2])
    write_pair(tmp_path, "T1_0001", 1500, [1, 2])
    write_pair(tmp_path, "T2_0001", 1000, [1, 1, 1, 3])
    return WHUOHS(tmp_path)


def test_distances_and_shares_are_those_of_the_tiles(known):
    report = measure_shift(known, protocol({"side": "S"}, {"side": "T"}, "city"))
    distance = report.table.groupby(["target", "class"])["distance"].agg(["min", "max", "size"])
    assert distance.loc[("Jilin", "paddy field")].tolist() == pytest.approx([0.05, 0.05, 32])
    assert distance.loc[("Shanghai", "paddy field")].tolist() == pytest.approx([0, 0, 32])
    assert distance.loc[(ALL_TARGETS, "dry farm")].tolist() == pytest.approx([0.05, 0.05, 32])
    assert ("Shanghai", "dry farm") not in distance.index
    assert "woodland" not in distance.index.get_level_values("class")
    share = report.priors.set_index(["domain", "class"])["share"]
    assert share[SOURCE, "dry farm"] == pytest.approx(0.5)
    assert share["Shanghai", "woodland"] == pytest.approx(0.25)
    assert share[ALL_TARGETS, "paddy field"] == pytest.approx(0.625)
    bits = report.divergence.set_index("target")["jensen_shannon"]
    assert bits["Jilin"] == pytest.approx(0)
    entropy = -sum(p * np.log2(p) for p in (0.625, 0.25, 0.125))
    assert bits["Shanghai"] == pytest.approx(entropy - 0.5 * 1 - 0.5 * (0.75 * np.log2(4 / 3) + 0.25 * 2))
    assert not report.simulated
    assert set(report.table["data"]) == {"real"}


def test_no_more_pixels_and_tiles_than_asked(known):
    report = measure_shift(known, protocol({"side": "S"}, {"side": "T"}, "city"), pixels_per_class=10)
    assert report.spectra["pixels"].max() == 10
    one = measure_shift(known, protocol({"side": "S"}, {"side": "T"}, "side"), tiles_per_domain=1)
    assert set(one.priors[one.priors["domain"] == ALL_TARGETS]["share"].round(3)) in ({0.0, 0.5}, {0.0, 0.25, 0.75})


def test_domains_that_select_nothing_are_refused(known):
    with pytest.raises(ProtocolError, match="no tile is source"):
        measure_shift(known, protocol({"side": "O"}, {"side": "T"}, "city"))
    with pytest.raises(ProtocolError, match="not in the tile index"):
        measure_shift(known, protocol({"side": "S"}, {"side": "T"}, "season"))


def test_no_class_in_common_is_refused(tmp_path):
    write_pair(tmp_path, "S1_0001", 1000, [1])
    write_pair(tmp_path, "T1_0001", 1000, [2])
    with pytest.raises(DataError, match="no class in common"):
        measure_shift(WHUOHS(tmp_path), protocol({"side": "S"}, {"side": "T"}, "city"))


@pytest.mark.parametrize("name", ["dfc_season/spring", "mts12_region/n2s"])
def test_report_of_a_simulated_archive_is_written_and_says_so(tmp_path, name):
    chosen = load_protocols(name)[0]
    root = simulate_archive(chosen.file.dataset, tmp_path / "archive", tiles=0.1, tile_size=32)
    dataset = dataset_class(chosen.file.dataset)(root)
    report = measure_shift(dataset, chosen, pixels_per_class=50)
    again = measure_shift(dataset, chosen, pixels_per_class=50)
    assert report.simulated
    pd.testing.assert_frame_equal(report.table, again.table)
    assert set(report.summary()["data"]) == set(report.table["data"]) == {"simulated"}
    assert report.summary()["target"].iloc[-1] == ALL_TARGETS
    shown = render(report)
    assert shown.title.startswith("SIMULATED")
    assert shown.row_count == len(report.summary())
    picture = tmp_path / "picture.png"
    picture.write_bytes(png(draw_shift(report), dots_per_inch=110))
    with rasterio.open(picture) as file:
        assert min(file.shape) > 500
        assert file.read().std() > 5
