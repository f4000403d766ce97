"""Digests of what files hold: another once a pixel changes, and no file is read twice for them."""

import os
import shutil

import numpy as np
import pytest
import rasterio
from archives import random_label, write_tif, write_whuohs

from spectral_tl_bench.datasets.archives.mts12 import MTS12
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.datasets.checksums import data_fingerprint
from spectral_tl_bench.simulation import simulate_archive
from spectral_tl_bench.utils.errors import DataError

LABEL = "tr/label/S1_0001.tif"


class Counting(WHUOHS):
    """Remembers which labels were read."""

    def __init__(self, *arguments, **options):
        self.read = []
        super().__init__(*arguments, **options)

    def read_label(self, path, window=None):
        self.read.append(path.name)
        return super().read_label(path, window)


@pytest.fixture
def root(tmp_path):
    return write_whuohs(tmp_path / "whu")


def checksums(dataset):
    return dataset.checksums(range(len(dataset)))


def fingerprint(root, cls=WHUOHS):
    return data_fingerprint(checksums(cls(root)))


def change(path, keep_time=False):
    """Write other codes in place, into a file of the same size and inode."""
    before = path.stat()
    with rasterio.open(path, "r+") as file:
        file.write(np.full((1, 16, 16), 3, np.uint8))
    after = path.stat()
    assert (before.st_size, before.st_ino) == (after.st_size, after.st_ino)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_fingerprint_does_not_depend_on_place_or_time(root, tmp_path):
    first = fingerprint(root)
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".*"))
    assert fingerprint(copy) == first
    assert len(first) == 16
    int(first, 16)


def test_labels_changed_in_place_are_other_data(root):
    first = fingerprint(root)
    change(root / LABEL)
    assert fingerprint(root) != first


def test_an_image_replaced_by_one_of_the_same_size_and_time_is_other_data(root):
    first = fingerprint(root)
    path, other = root / "tr/image/S1_0001.tif", root / "tr/image/S1_0002.tif"
    time, size = path.stat().st_mtime_ns, path.stat().st_size
    copy = shutil.copyfile(other, root / "copy.tif")
    os.utime(copy, ns=(time, time))
    assert copy.stat().st_size == size
    copy.replace(path)
    assert fingerprint(root) != first


def test_only_what_has_changed_is_read_again(root):
    first = Counting(root)
    expected = checksums(first)
    assert len(first.read) == 10
    assert checksums(first) == expected
    assert len(first.read) == 10
    again = Counting(root)
    assert checksums(again) == expected
    assert again.read == []
    change(root / LABEL)
    assert checksums(again)["S1_0001"] != expected["S1_0001"]
    assert again.read == ["S1_0001.tif"]


def test_only_the_tiles_asked_for_are_read(root):
    dataset = Counting(root)
    dataset.checksums([1, 4])
    assert sorted(dataset.read) == sorted(f"{tile}.tif" for tile in dataset.index["tile"].iloc[[1, 4]])


def test_codes_are_those_of_the_label_map(root):
    write_tif(root / LABEL, random_label([3, 7, 22]))
    assert checksums(WHUOHS(root))["S1_0001"].codes == (3, 7, 22)


@pytest.mark.parametrize("damage", [b"", b"PAR1 nonsense PAR1"])
def test_a_damaged_cache_is_made_anew(root, damage):
    first = fingerprint(root)
    (path,) = root.rglob("files-*.parquet")
    path.write_bytes(damage)
    assert fingerprint(root) == first
    assert path.stat().st_size > 1000


def test_an_archive_marked_read_only_is_kept_for_the_user(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(tmp_path / "cache"))
    root.chmod(0o555)
    checksums(Counting(root))
    again = Counting(root)
    checksums(again)
    root.chmod(0o755)
    assert again.read == []
    assert not list(root.rglob("files-*"))


def test_what_was_read_before_a_file_failed_is_kept(root):
    bad = write_tif(root / LABEL, random_label([1], dtype="float32") + 0.5)
    with pytest.raises(DataError, match=r"S1_0001\.tif is not a label map"):
        checksums(Counting(root))
    write_tif(bad, random_label([1]))
    again = Counting(root)
    checksums(again)
    assert again.read == ["S1_0001.tif"]


def test_a_change_that_neither_size_nor_time_shows_is_found_by_the_check_and_put_right(root):
    first = fingerprint(root)
    assert check_archive("whuohs", root).ok
    change(root / LABEL, keep_time=True)
    assert fingerprint(root) == first
    (problem,) = check_archive("whuohs", root).problems
    assert problem.kind == "changed"
    assert problem.path == str(root / LABEL)
    assert check_archive("whuohs", root).ok
    assert fingerprint(root) != first


def test_a_simulated_archive_is_the_same_whatever_wrote_its_files(tmp_path):
    """Libraries compress differently, and MATLAB files hold the time when they were written."""
    root = simulate_archive("mts12", tmp_path / "a", tiles=0.01, tile_size=8)
    first = fingerprint(root, MTS12)
    image = next((root / "image").rglob("*.tif"))
    with rasterio.open(image) as file:
        pixels, profile = file.read(), file.profile
    with rasterio.open(image, "w", **profile | {"compress": "lzw"}) as file:
        file.write(pixels)
    label = next((root / "label").rglob("*.mat"))
    content = bytearray(label.read_bytes())
    content[40:60] = b"another day and time"
    label.write_bytes(content)
    assert fingerprint(root, MTS12) == first
    pixels[0, 0, 0] += 1
    with rasterio.open(image, "w", **profile) as file:
        file.write(pixels)
    assert fingerprint(root, MTS12) != first


def test_a_terminal_is_shown_how_far_the_first_reading_is_and_nothing_else_is(root, monkeypatch, capfd):
    monkeypatch.setattr("spectral_tl_bench.datasets.file_facts.FILES_SHOWN", 2)
    checksums(WHUOHS(root))
    assert capfd.readouterr() == ("", "")
    shutil.rmtree(root / ".spectral_tl_bench")
    monkeypatch.setenv("FORCE_COLOR", "1")
    checksums(WHUOHS(root))
    shown = capfd.readouterr()
    assert "files of whuohs once" in shown.err
    assert shown.out == ""
    checksums(WHUOHS(root))
    assert capfd.readouterr().err == ""
