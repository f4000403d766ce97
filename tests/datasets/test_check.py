import io
import json

import numpy as np
import pytest
from archives import random_image, random_label, write_dfc2020, write_mts12, write_own_tiles, write_tif, write_whuohs
from rich.console import Console
from torchgeo.datasets import DatasetNotFoundError

from spectral_tl_bench.cli.check_view import render
from spectral_tl_bench.config.protocols import ProtocolFile, load_protocols
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.utils.errors import DataError, UnknownNameError


@pytest.fixture
def root(tmp_path):
    return write_whuohs(tmp_path / "whu")


@pytest.mark.parametrize(
    ("name", "write"), [("whuohs", write_whuohs), ("dfc2020", write_dfc2020), ("mts12", write_mts12)]
)
def test_a_partial_archive_of_sound_tiles_is_ok_with_a_note(tmp_path, name, write):
    report = check_archive(name, write(tmp_path / "archive"))
    assert report.ok
    assert report.tiles == report.tiles_read > 0
    assert any("partial or simulated" in note for note in report.notes)
    assert json.loads(report.model_dump_json())["ok"] is True


def test_counts_stand_beside_the_published_ones(root):
    counts = {count.what: (count.found, count.published) for count in check_archive("whuohs", root).counts}
    assert counts["split = train"] == (5, 4822)
    assert counts["side = S"] == (4, 1464)
    assert counts["whu_region/s2t target"] == (3, 1450)
    assert counts["whu_indomain source"] == (5, 4822)


def test_a_complete_count_gives_no_note_about_it(tmp_path):
    write_own_tiles(tmp_path)
    report = check_archive(own_file(tiles=[4, 4]), tmp_path)
    assert report.notes == ()
    assert {count.what: count.found for count in report.counts} == {"own source": 4, "own target": 4}


def test_every_broken_tile_is_listed(root):
    (root / "tr" / "label" / "S1_0001.tif").unlink()
    (root / "ts" / "image" / "T2_0001.tif").unlink()
    write_tif(root / "tr" / "image" / "S1_0002.tif", random_image(31))
    write_tif(root / "tr" / "label" / "S2_0001.tif", random_label([1], size=8))
    (root / "val" / "image" / "T1_0002.tif").write_bytes(b"II*\0 but no more")
    write_tif(root / "val" / "label" / "O8_0003.tif", np.full((16, 16), 77, np.uint8))
    report = check_archive("whuohs", root)
    assert not report.ok
    assert sorted(problem.kind for problem in report.problems) == [
        "bands",
        "codes",
        "size",
        "unreadable",
    ]
    assert {problem.path.rsplit("/", 1)[1] for problem in report.problems} == {
        *("S1_0002.tif", "S2_0001.tif", "T1_0002.tif", "O8_0003.tif")
    }
    assert [problem.path.rsplit("/", 1)[1] for problem in report.left_out] == ["S1_0001.tif", "T2_0001.tif"]
    assert report.tiles == 4


def test_damage_in_the_middle_of_a_file_is_found(root):
    path = write_tif(root / "tr" / "image" / "S1_0001.tif", random_image(32, size=64), compress="deflate")
    write_tif(root / "tr" / "label" / "S1_0001.tif", random_label([1], size=64))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    report = check_archive("whuohs", root)
    assert [problem.kind for problem in report.problems] == ["unreadable"]
    assert "S1_0001.tif" in report.problems[0].message


def test_pixels_are_counted_by_label_code(tmp_path):
    codes = random_label(range(25), seed=3)
    write_tif(tmp_path / "tr" / "image" / "S1_0001.tif", random_image(32))
    write_tif(tmp_path / "tr" / "label" / "S1_0001.tif", codes)
    labels = check_archive("whuohs", tmp_path).labels
    assert {label.code: label.pixels for label in labels} == dict(
        enumerate(np.bincount(codes.ravel(), minlength=25).tolist())
    )
    assert labels[0].name is None
    assert labels[1].name == "paddy field"


def test_band_statistics_are_reflectance_of_pixels_with_data(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 9000, (32, 16, 16)).astype("int16") for _ in range(3)]
    for number, tile in enumerate(pixels):
        tile[:, 0, :4] = -9999
        write_tif(tmp_path / "tr" / "image" / f"S1_{number:04d}.tif", tile, nodata=-9999)
        write_tif(tmp_path / "tr" / "label" / f"S1_{number:04d}.tif", random_label([1, 2]))
    report = check_archive("whuohs", tmp_path)
    values = np.concatenate([tile.reshape(32, -1)[:, 4:] for tile in pixels], axis=1) / 10_000
    for band, expected in zip(report.bands, values, strict=True):
        assert band.mean == pytest.approx(expected.mean(), rel=1e-5)
        assert band.std == pytest.approx(expected.std(), rel=1e-4)
        assert (band.minimum, band.maximum) == pytest.approx((expected.min(), expected.max()), rel=1e-5)
    assert report.nodata_share == pytest.approx(4 / 256)


def test_a_sample_reads_so_many_tiles_and_still_counts_all(root):
    report = check_archive("whuohs", root, sample=3)
    assert report.tiles_read == 3
    assert report.tiles == 10


def test_values_that_are_reflectance_already_are_noted(tmp_path):
    write_tif(tmp_path / "tr" / "image" / "S1_0001.tif", random_image(32, dtype="float32") / 10_000)
    write_tif(tmp_path / "tr" / "label" / "S1_0001.tif", random_label([1, 2]))
    assert any("not scaled by 10000" in note for note in check_archive("whuohs", tmp_path).notes)


def test_a_protocol_file_of_an_archive_checks_its_own_transfers(root):
    report = check_archive(load_protocols("whu_region")[0].file, root)
    assert {count.what for count in report.counts if "=" not in count.what} == {
        *("whu_region/s2t source", "whu_region/s2t target", "whu_region/t2s source", "whu_region/t2s target")
    }
    assert next(label for label in report.labels if label.code == 18).name is None


def test_own_tiles_need_their_protocol_file(root):
    with pytest.raises(DataError, match="protocol file"):
        check_archive("tiles", root)


def test_an_unknown_dataset_or_an_empty_root_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="whuohs"):
        check_archive("whuoh", tmp_path)
    with pytest.raises(DatasetNotFoundError):
        check_archive("whuohs", tmp_path)


def test_an_archive_whose_tiles_are_all_broken_is_reported(tmp_path):
    write_whuohs(tmp_path, {"tr": ("S1_0001",)})
    (tmp_path / "tr" / "image" / "S1_0001.tif").write_bytes(b"")
    report = check_archive("whuohs", tmp_path)
    assert (report.ok, report.tiles, report.bands) == (False, 0, ())


@pytest.mark.parametrize("broken", [True, False])
def test_the_report_reads_verdict_first(root, broken):
    if broken:
        (root / "tr" / "label" / "S1_0001.tif").write_bytes(b"")
    (root / "tr" / "label" / "S1_0002.tif").unlink()
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(check_archive("whuohs", root)))
    lines = console.export_text().splitlines()
    assert lines[0].startswith("whuohs: 1 problem" if broken else "whuohs: ok")
    assert any("paddy field" in line for line in lines)
    assert any("cannot read" in line and "S1_0001.tif" in line for line in lines) == broken
    assert any("left out" in line and "S1_0002.tif has no label" in line for line in lines)


def own_file(**changes):
    return ProtocolFile.model_validate(
        {
            "name": "own",
            "title": "Own",
            "dataset": "tiles",
            "sensor": {"name": "four", "bands": {"b": 490, "g": 560, "r": 660, "n": 840}, "rgb": ["r", "g", "b"]},
            "classes": [{"code": 10, "name": "trees", "color": "#00aa00"}],
            "ignore": "rest",
            "folder": {"tile": "name"},
            "source": {"region": "coast"},
            "target": {"region": "inland"},
            "by": "region",
            **changes,
        }
    )


def test_tiles_on_neither_side_and_values_of_no_tile_are_named(tmp_path):
    write_own_tiles(tmp_path)
    csv = tmp_path / "tiles.csv"
    csv.write_text(csv.read_text().replace("000.tif,coast", "000.tif,Coast").replace("007.tif,inland", "007.tif,bay"))
    report = check_archive(own_file(target={"region": ["inland", "inlnd"]}), tmp_path)
    assert report.notes == (
        "no tile has region = 'inlnd'; is 'inland' meant?",
        "own: 2 tiles are on neither side (region = 'Coast': 1; region = 'bay': 1)",
    )
