import os
from importlib.resources import files

import numpy as np
import pytest
import rasterio
import torch
from archives import (
    WHUOHS_NAMES,
    random_image,
    random_label,
    utm,
    write_tif,
    write_whuohs,
    write_whuohs_transfer,
)
from matplotlib.figure import Figure
from torch.utils.data import DataLoader
from torchgeo.datasets import DatasetNotFoundError

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.utils.errors import DataError


@pytest.fixture
def root(tmp_path):
    return write_whuohs(tmp_path / "whu")


def tile(dataset, name):
    return dataset.index.set_index("tile").loc[name]


def test_every_tile_of_the_official_layout_is_indexed_with_its_split(root):
    index = WHUOHS(root).index
    expected = {
        name: {"tr": "train", "val": "val", "ts": "test"}[split]
        for split, names in WHUOHS_NAMES.items()
        for name in names
    }
    assert dict(zip(index["tile"], index["split"], strict=True)) == expected


@pytest.mark.parametrize(("split", "expected"), [("train", 5), ("val", 2), ("test", 3), (None, 10)])
def test_a_split_holds_its_own_tiles(root, split, expected):
    assert len(WHUOHS(root, split=split)) == expected


def test_an_unknown_split_is_refused(root):
    with pytest.raises(DataError, match="no split 'validation'"):
        WHUOHS(root, split="validation")


@pytest.mark.parametrize(
    ("name", "city"),
    [
        ("S1_0001", "Changchun"),
        ("T1_0001", "Jilin"),
        ("S8_0004", "Tianjin"),
        ("T2_0001", "Shanghai"),
        ("O5_0001", "Huhehaote"),
        ("O8_0003", "Manasi_1"),
        ("O24_0001", "O24"),
    ],
)
def test_names_tell_the_city(root, name, city):
    row = tile(WHUOHS(root), name)
    assert row["city"] == city
    assert row["side"] == name[0]
    assert row["pair"] == int(name[1 : name.index("_")])


@pytest.mark.parametrize("splits", [("",), ("tr", "val", "ts")])
@pytest.mark.parametrize("nested", [True, False])
def test_the_transfer_release_is_read_with_and_without_split_folders(tmp_path, splits, nested):
    write_whuohs_transfer(tmp_path / "data", splits)
    index = WHUOHS(tmp_path / "data" if nested else tmp_path / "data" / "transfer-STall").index
    assert len(index) == 4 * len(splits)
    assert set(index["side"]) == {"S", "T"}
    assert set(index["split"]) == ({"train", "test"} if splits == ("",) else {"train", "val", "test"})


def test_a_number_used_in_two_splits_for_other_pixels_stays_two_tiles(tmp_path):
    write_whuohs(tmp_path, {"tr": ("S1_0001",), "ts": ("S1_0001",)})
    write_tif(tmp_path / "ts" / "image" / "S1_0001.tif", random_image(32, 99))
    assert set(WHUOHS(tmp_path).index["tile"]) == {"train/S1_0001", "test/S1_0001"}


def test_upper_case_names_and_folders_are_found(tmp_path):
    write_tif(tmp_path / "TR" / "Image" / "s1_0001.TIF", random_image(32))
    write_tif(tmp_path / "TR" / "LABEL" / "S1_0001.tif", random_label(range(25)))
    assert list(WHUOHS(tmp_path).index["tile"]) == ["S1_0001"]


def test_a_linked_root_is_followed(root, tmp_path):
    os.symlink(root, tmp_path / "link")
    dataset = WHUOHS(tmp_path / "link")
    assert len(dataset) == 10
    assert dataset[0]["image"].shape == (32, 16, 16)


def test_a_folder_linked_into_itself_ends(root):
    os.symlink(root, root / "tr" / "again")
    assert len(WHUOHS(root)) == 10


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_root_without_tiles_is_not_found(tmp_path, name):
    with pytest.raises(DatasetNotFoundError):
        WHUOHS(tmp_path / name)


def test_samples_hold_reflectance_and_contiguous_class_ids(tmp_path):
    pixels = random_image(32)
    codes = random_label(range(25), seed=3)
    write_tif(tmp_path / "tr" / "image" / "S1_0001.tif", pixels)
    write_tif(tmp_path / "tr" / "label" / "S1_0001.tif", codes)
    sample = WHUOHS(tmp_path)[0]
    assert sample["tile"] == "S1_0001"
    assert sample["image"].dtype == torch.float32
    np.testing.assert_allclose(sample["image"].numpy(), pixels / 10_000, rtol=1e-6)
    assert sample["mask"].dtype == torch.int64
    np.testing.assert_array_equal(sample["mask"].numpy(), np.where(codes == 0, 255, codes.astype(int) - 1))


def test_the_transfers_ignore_classes_18_and_20_and_keep_22(root):
    (s2t, _) = load_protocols("whu_region")
    dataset = open_dataset(s2t.file, root)
    assert len(dataset.classes) == 22
    assert not {18, 20} & {c.code for c in dataset.classes}
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16) % 25
    write_tif(root / "tr" / "label" / "S1_0001.tif", codes)
    dataset = open_dataset(s2t.file, root)
    mask = dataset[list(dataset.index["tile"]).index("S1_0001")]["mask"].numpy()
    assert set(mask[np.isin(codes, (0, 18, 20))]) == {255}
    assert set(mask[codes == 19]) == {17}
    assert set(mask[codes == 24]) == {21}


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_any_number_type_gives_the_same_reflectance(tmp_path, dtype):
    pixels = random_image(32, dtype=dtype)
    if dtype != "uint16":
        pixels[:, 0, 0] = -50
    write_tif(tmp_path / "tr" / "image" / "S1_0001.tif", pixels)
    write_tif(tmp_path / "tr" / "label" / "S1_0001.tif", random_label([1, 2]))
    image = WHUOHS(tmp_path)[0]["image"]
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), pixels.astype(float) / 10_000, rtol=1e-5)


@pytest.mark.parametrize(("value", "profile"), [(np.nan, {}), (np.inf, {}), (-9999.0, {"nodata": -9999.0})])
def test_pixels_without_data_are_zero_and_ignored(tmp_path, value, profile):
    pixels = random_image(32, dtype="float32")
    pixels[5, 2, 3] = value
    write_tif(tmp_path / "tr" / "image" / "S1_0001.tif", pixels, **profile)
    write_tif(tmp_path / "tr" / "label" / "S1_0001.tif", np.full((16, 16), 4, np.uint8))
    sample = WHUOHS(tmp_path)[0]
    assert torch.isfinite(sample["image"]).all()
    assert (sample["image"][:, 2, 3] == 0).all()
    assert sample["mask"][2, 3] == 255
    assert (sample["mask"] == 3).sum() == 255


def test_labels_stored_as_floats_are_read(tmp_path):
    write_tif(tmp_path / "tr" / "image" / "S1_0001.tif", random_image(32))
    codes = random_label(range(25), dtype="float32")
    write_tif(tmp_path / "tr" / "label" / "S1_0001.tif", codes)
    np.testing.assert_array_equal(WHUOHS(tmp_path)[0]["mask"].numpy(), np.where(codes == 0, 255, codes - 1))


def test_tiles_of_differing_size_are_indexed_with_their_own_size(tmp_path):
    for name, size in (("S1_0001", 16), ("S1_0002", 24)):
        write_tif(tmp_path / "tr" / "image" / f"{name}.tif", random_image(32, size=size))
        write_tif(tmp_path / "tr" / "label" / f"{name}.tif", random_label([1], size=size))
    dataset = WHUOHS(tmp_path)
    assert list(dataset.index["height"]) == [16, 24]
    assert dataset[1]["mask"].shape == (24, 24)


def test_footprints_are_in_degrees_where_the_file_knows_its_place(tmp_path):
    write_whuohs(tmp_path / "placed", {"tr": ("S1_0001",)}, **utm())
    index = WHUOHS(tmp_path / "placed").index
    west, south, east, north = index.geometry.iloc[0].bounds
    assert index.crs.to_epsg() == 4326
    assert west == pytest.approx(117.0, abs=1e-6)
    assert 36.0 < south < north < 36.3
    assert 117.0 < east < 117.01
    write_whuohs(tmp_path / "unplaced", {"tr": ("S1_0001",)})
    assert WHUOHS(tmp_path / "unplaced").index.geometry.iloc[0] is None


def test_default_collate_batches_the_samples(root):
    batch = next(iter(DataLoader(WHUOHS(root, split="train"), batch_size=2)))
    assert batch["image"].shape == (2, 32, 16, 16)
    assert batch["mask"].shape == (2, 16, 16)
    assert batch["tile"] == ["O5_0001", "S1_0001"]


def test_transforms_are_applied(root):
    dataset = WHUOHS(root, transforms=lambda sample: {**sample, "image": sample["image"] * 0})
    assert dataset[0]["image"].abs().sum() == 0


def test_a_window_equals_that_part_of_the_tile(root):
    dataset = WHUOHS(root)
    whole, part = dataset.read(3), dataset.read(3, window=(2, 5, 8, 6))
    assert torch.equal(part["image"], whole["image"][:, 2:10, 5:11])
    assert torch.equal(part["mask"], whole["mask"][2:10, 5:11])


def test_samples_are_drawn(root):
    dataset = WHUOHS(root)
    sample = dataset[0]
    sample["prediction"] = sample["mask"]
    assert isinstance(dataset.plot(sample, suptitle="tile"), Figure)


def test_files_without_a_partner_are_left_out_and_listed(root):
    (root / "tr" / "label" / "S1_0001.tif").unlink()
    (root / "ts" / "image" / "T2_0001.tif").unlink()
    dataset = WHUOHS(root)
    assert len(dataset) == 8
    assert [problem.message.partition(";")[0] for problem in dataset.left_out] == [
        f"{root}/tr/image/S1_0001.tif has no label",
        f"{root}/ts/label/T2_0001.tif has no image",
    ]
    assert [note.partition(",")[0] for note in dataset.notes] == ["2 files without their partner are left out"]


def test_images_without_any_label_are_refused_by_name_and_counted(tmp_path):
    for name in ("S1_0001", "S1_0002"):
        write_tif(tmp_path / "tr" / "image" / f"{name}.tif", random_image(32))
    with pytest.raises(DataError, match=r"S1_0001\.tif has no label.*2 such files in all"):
        WHUOHS(tmp_path)


def test_the_shipped_protocol_names_the_published_numbers():
    assert {p.name: p.transfer.tiles for p in load_protocols("whu_region")} == {
        "whu_region/s2t": (1464, 1450),
        "whu_region/t2s": (1450, 1464),
    }
    assert files("spectral_tl_bench.benchmarks").joinpath("whu_region.yaml").read_text().startswith("#")


@pytest.mark.parametrize("compress", [None, "deflate"])
def test_stored_values_keep_the_type_on_disk(root, compress):
    dataset = WHUOHS(root)
    path = dataset.index["image"].iloc[0]
    with rasterio.open(path) as file:
        pixels, profile = file.read(), file.profile
    # Uncompressed files are mapped into memory, compressed ones cannot be.
    with rasterio.open(path, "w", **{**profile, "compress": compress}) as file:
        file.write(pixels)
    stored = WHUOHS(root).read_stored(0)["image"]
    assert stored.numpy().dtype == pixels.dtype
    np.testing.assert_array_equal(stored.numpy(), pixels)
    torch.testing.assert_close(dataset.to_reflectance(stored), stored.float() / 10_000)
