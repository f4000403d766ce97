import os
import shutil

import pytest
import rasterio
from archives import random_image, random_label, utm, write_dfc2020, write_mts12, write_tif, write_whuohs
from pandas.testing import assert_frame_equal

from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020
from spectral_tl_bench.datasets.archives.indomain import blocked_split
from spectral_tl_bench.datasets.archives.mts12 import MTS12
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.splits.blocks import cells, runs
from spectral_tl_bench.utils.errors import DataError

ARCHIVES = [(WHUOHS, write_whuohs), (DFC2020, write_dfc2020), (MTS12, write_mts12)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


@pytest.fixture
def root(tmp_path):
    return write_whuohs(tmp_path / "whu", **utm())


def cached(folder):
    return sorted(folder.rglob("files-*.parquet"))


@pytest.mark.parametrize(("cls", "write"), ARCHIVES)
def test_the_cached_index_equals_the_first(tmp_path, cls, write):
    root = write(tmp_path / "archive")
    first = cls(root).index
    assert len(cached(root / ".spectral_tl_bench")) == 1
    assert_frame_equal(first, cls(root).index)


def test_footprints_survive_the_cache(root):
    first, second = WHUOHS(root).index, WHUOHS(root).index
    assert first.geometry.notna().all()
    assert first.geometry.geom_equals(second.geometry).all()


def test_a_changed_file_is_indexed_anew_in_the_same_cache(root):
    WHUOHS(root)
    (path,) = cached(root)
    before = path.read_bytes()
    for role, pixels in (("image", random_image(32, size=20)), ("label", random_label([1], size=20))):
        write_tif(root / "tr" / role / "S1_0001.tif", pixels)
    index = WHUOHS(root).index.set_index("tile")
    assert index.loc["S1_0001", "height"] == 20
    assert cached(root) == [path]
    assert path.read_bytes() != before


def test_an_added_tile_is_seen(root):
    WHUOHS(root)
    for role, pixels in (("image", random_image(32)), ("label", random_label([1]))):
        write_tif(root / "tr" / role / "S3_0001.tif", pixels)
    assert len(WHUOHS(root)) == 11


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense PAR1", b"half"])
def test_a_damaged_cache_is_rebuilt(root, content):
    expected = WHUOHS(root).index
    (path,) = cached(root)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    assert_frame_equal(WHUOHS(root).index, expected)
    assert path.read_bytes()[:4] == b"PAR1"
    assert len(path.read_bytes()) > 1000


def test_a_moved_archive_keeps_its_cache_and_gets_new_paths(root, tmp_path):
    WHUOHS(root)
    (path,) = cached(root)
    stamp = path.stat().st_mtime_ns
    moved = shutil.move(root, tmp_path / "moved")
    index = WHUOHS(moved).index
    assert index["image"].str.startswith(str(tmp_path / "moved")).all()
    assert [p.stat().st_mtime_ns for p in cached(tmp_path / "moved")] == [stamp]


def test_a_root_that_cannot_be_written_is_cached_for_the_user(root, own_cache):
    (root / ".spectral_tl_bench").write_text("a file where the folder would be")
    first = WHUOHS(root).index
    (path,) = cached(own_cache)
    stamp = path.stat().st_mtime_ns
    assert_frame_equal(WHUOHS(root).index, first)
    assert path.stat().st_mtime_ns == stamp


def test_an_archive_marked_read_only_is_not_written_even_by_the_superuser(root, own_cache):
    root.chmod(0o555)
    before = sorted(root.rglob("*"))
    assert len(WHUOHS(root)) == 10
    assert sorted(root.rglob("*")) == before
    assert len(cached(own_cache)) == 1
    root.chmod(0o755)


def test_without_any_place_for_a_cache_the_index_still_comes(root, own_cache):
    (root / ".spectral_tl_bench").write_text("")
    own_cache.write_text("")
    assert len(WHUOHS(root)) == 10


def test_no_partial_file_is_left(root):
    WHUOHS(root)
    assert [p.suffix for p in (root / ".spectral_tl_bench").iterdir()] == [".parquet"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("role", ["image", "label"])
@pytest.mark.parametrize("profile", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_a_truncated_tile_is_refused_at_start_with_its_name(root, role, share, profile):
    pixels = random_image(32, size=64) if role == "image" else random_label([1, 2], size=64)
    path = write_tif(root / "tr" / role / "S1_0001.tif", pixels, **profile)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DataError, match=rf"cannot read .*{role}/S1_0001\.tif.*fetch it again") as error:
        WHUOHS(root)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_image_is_refused(root):
    (root / "tr" / "image" / "S1_0001.tif").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"cannot read .*S1_0001\.tif"):
        WHUOHS(root)


def test_a_link_to_nowhere_is_refused_by_name(root):
    path = root / "tr" / "image" / "S1_0001.tif"
    path.unlink()
    path.symlink_to(root / "gone.tif")
    with pytest.raises(DataError, match=r"cannot read .*S1_0001\.tif"):
        WHUOHS(root)


def test_a_wrong_band_count_is_refused_with_both_numbers(root):
    write_tif(root / "tr" / "image" / "S1_0001.tif", random_image(31))
    with pytest.raises(DataError, match=r"S1_0001\.tif has 31 bands where ohs has 32;"):
        WHUOHS(root)


def test_a_label_of_another_size_is_refused(root):
    write_tif(root / "tr" / "label" / "S1_0001.tif", random_label([1], size=8))
    with pytest.raises(DataError, match=r"S1_0001\.tif is 8 x 8 px but its image is 16 x 16"):
        WHUOHS(root)


def test_a_broken_archive_is_never_remembered_as_sound(root):
    path = root / "tr" / "image" / "S1_0001.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    for _ in range(2):
        with pytest.raises(DataError, match="S1_0001"):
            WHUOHS(root)
    path.write_bytes(whole)
    assert len(WHUOHS(root)) == 10


def test_without_strictness_bad_tiles_are_left_out_and_listed(root):
    (root / "tr" / "label" / "S1_0001.tif").unlink()
    write_tif(root / "tr" / "image" / "S1_0002.tif", random_image(31))
    (root / "val" / "image" / "T1_0002.tif").write_bytes(b"")
    dataset = WHUOHS(root, strict=False)
    assert len(dataset) == 7
    assert {problem.kind for problem in dataset.problems} == {"bands", "unreadable"}
    assert {problem.kind for problem in dataset.left_out} == {"unpaired"}


def test_an_indexed_archive_opens_without_opening_a_tile(tmp_path, monkeypatch):
    write_whuohs(tmp_path, {"tr": ("S1_0001",)}, size=4)
    for number in range(2, 31):
        for role in ("image", "label"):
            os.link(tmp_path / "tr" / role / "S1_0001.tif", tmp_path / "tr" / role / f"S1_{number:04d}.tif")
    assert len(WHUOHS(tmp_path)) == 30

    def refuse(*arguments, **keywords):
        raise AssertionError("a tile was opened")

    monkeypatch.setattr(rasterio, "DatasetReader", refuse)
    assert len(WHUOHS(tmp_path)) == 30
    copy = shutil.copytree(tmp_path / "tr", tmp_path / "elsewhere" / "tr").parent
    with pytest.raises(AssertionError, match="a tile was opened"):
        WHUOHS(copy)


@pytest.mark.parametrize(("tiles", "length"), [(1000, 16), (160, 16), (100, 10), (25, 2), (5, 1)])
def test_runs_are_short_enough_for_ten_blocks(tiles, length):
    blocks = runs(["a"] * tiles + ["b"] * 3)
    assert blocks.count(blocks[0]) == length
    assert blocks == sorted(blocks)
    assert len(set(blocks[:tiles])) >= min(10, tiles)


def test_cells_shrink_where_the_grid_is_small():
    columns, rows = zip(*[(c, r) for c in range(4) for r in range(4)], strict=True)
    assert len(set(cells(["n"] * 16, columns, rows))) == 16
    columns, rows = zip(*[(c, r) for c in range(12) for r in range(12)], strict=True)
    assert len(set(cells(["n"] * 144, columns, rows))) == 16


def test_halves_share_no_cell():
    blocks = cells(["south", "north"], [1, 1], [1, 2])
    assert blocks[0] != blocks[1]


def test_the_in_domain_split_does_not_depend_on_the_order_of_tiles():
    groups = ["a"] * 100
    blocks = runs(groups)
    sides = dict(zip(blocks, blocked_split(groups, blocks), strict=True))
    again = dict(zip(blocks[::-1], blocked_split(groups, blocks[::-1]), strict=True))
    assert sides == again
    assert list(sides.values()).count("test") == 3


def test_a_sub_domain_of_one_block_trains():
    assert blocked_split(["a"] * 4, ["x"] * 4) == ["train"] * 4
