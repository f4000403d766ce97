import h5py
import numpy as np
import pytest
import scipy.io
import torch
from archives import (
    MTS12_TILES,
    random_image,
    random_label,
    write_data_lists,
    write_mat,
    write_mat_73,
    write_mts12,
    write_mts12_original,
)

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.archives.mts12 import MTS12
from spectral_tl_bench.utils.errors import DataError

NAME = "eopatch_id_212_col_5_row_12"


@pytest.fixture
def root(tmp_path):
    return write_mts12(tmp_path / "mts")


def position(dataset, tile):
    return list(dataset.index["tile"]).index(tile)


def test_tiles_have_their_split_half_and_place_in_the_grid(root):
    index = MTS12(root).index
    found = {
        split: set(zip(part["col"], part["row"], strict=True)) for split, part in index.groupby("split", sort=False)
    }
    assert found == {split: set(cells) for split, cells in MTS12_TILES.items()}
    assert set(index.loc[index["half"] == "south", "split"]) == {"test"}
    assert set(index.loc[index["half"] == "north", "split"]) == {"train", "val"}


def test_samples_join_the_tif_with_the_mat_label(root):
    dataset = MTS12(root)
    sample = dataset[position(dataset, NAME)]
    codes = random_label(range(9), 212).astype(int)
    np.testing.assert_allclose(sample["image"].numpy(), random_image(24, 212) / 10_000, rtol=1e-6)
    np.testing.assert_array_equal(sample["mask"].numpy(), np.where(codes == 0, 255, codes - 1))


@pytest.mark.parametrize("order", ["date", "band"])
@pytest.mark.parametrize("months", [12, 4])
def test_original_files_give_reflectance_of_the_four_months_in_channel_order(tmp_path, order, months):
    write_mts12_original(tmp_path, months)
    dataset = MTS12(tmp_path, order=order)
    assert len(dataset) == 8
    stack = scipy.io.loadmat(tmp_path / "s2" / "train" / f"{NAME}.mat")["band"]
    image = dataset[position(dataset, NAME)]["image"]
    positions = {"March": 2, "June": 5, "September": 8, "December": 11} if months == 12 else {
        "March": 0, "June": 1, "September": 2, "December": 3,
    }  # fmt: skip
    for channel, band in enumerate(dataset.sensor.bands):
        name = band.name.split()[0]
        expected = stack[positions[band.date], :, :, ["B2", "B3", "B4", "B8", "B11", "B12"].index(name)]
        np.testing.assert_allclose(image[channel].numpy(), expected, rtol=1e-5)


def test_order_changes_the_names_of_the_stacked_channels_not_their_values(root):
    by_date, by_band = MTS12(root), MTS12(root, order="band")
    assert by_date.sensor.bands[1].name == "B3 March"
    assert by_band.sensor.bands[1].name == "B2 June"
    assert torch.equal(by_date[0]["image"], by_band[0]["image"])


def test_a_window_equals_that_part_of_the_tile_in_both_layouts(root, tmp_path):
    for dataset in (MTS12(root), MTS12(write_mts12_original(tmp_path / "original"))):
        whole, part = dataset.read(2), dataset.read(2, window=(4, 1, 6, 9))
        assert torch.equal(part["image"], whole["image"][:, 4:10, 1:10])
        assert torch.equal(part["mask"], whole["mask"][4:10, 1:10])


def test_missing_values_of_the_original_are_ignored(tmp_path):
    write_mts12_original(tmp_path)
    path = tmp_path / "s2" / "train" / f"{NAME}.mat"
    stack = scipy.io.loadmat(path)["band"]
    stack[5, 3, 4, 1] = np.nan
    write_mat(path, band=stack)
    dataset = MTS12(tmp_path)
    sample = dataset[position(dataset, NAME)]
    assert (sample["image"][:, 3, 4] == 0).all()
    assert sample["mask"][3, 4] == 255


@pytest.mark.parametrize("cut", [60, 140, 0.5, 0.95])
def test_a_truncated_label_is_refused_at_start_with_its_name(root, cut):
    path = root / "label" / "train" / f"{NAME}_label.mat"
    content = path.read_bytes()
    path.write_bytes(content[: cut if isinstance(cut, int) else int(len(content) * cut)])
    with pytest.raises(DataError, match=rf"{NAME}_label\.mat.*fetch it again"):
        MTS12(root)


def test_a_damaged_label_is_refused_when_it_is_read(root):
    path = root / "label" / "train" / f"{NAME}_label.mat"
    content = bytearray(path.read_bytes())
    content[-40:] = bytes(40)
    path.write_bytes(content)
    dataset = MTS12(root)
    with pytest.raises(DataError, match=rf"cannot read .*{NAME}_label\.mat"):
        dataset[position(dataset, NAME)]


def test_a_label_file_without_label_is_refused(root):
    write_mat(root / "label" / "train" / f"{NAME}_label.mat", other=np.zeros((16, 16)), more=np.ones((16, 16)))
    with pytest.raises(DataError, match="holds no variable 'label' but other, more"):
        MTS12(root)


def test_a_label_under_another_name_is_read_when_it_is_the_only_one(root):
    codes = random_label(range(1, 9), 5)
    write_mat(root / "label" / "train" / f"{NAME}_label.mat", lulc=codes)
    dataset = MTS12(root)
    np.testing.assert_array_equal(dataset[position(dataset, NAME)]["mask"].numpy(), codes.astype(int) - 1)


def test_a_matlab_7_3_file_is_read(root):
    codes = random_label(range(1, 9), 5)
    write_mat_73(root / "label" / "train" / f"{NAME}_label.mat", label=codes)
    dataset = MTS12(root)
    np.testing.assert_array_equal(dataset[position(dataset, NAME)]["mask"].numpy(), codes.astype(int) - 1)


def test_a_damaged_matlab_7_3_file_is_refused_by_name(root):
    (root / "label" / "train" / f"{NAME}_label.mat").write_bytes(
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + bytes(512)
    )
    with pytest.raises(DataError, match=f"cannot read .*{NAME}_label.mat"):
        MTS12(root)


def test_a_matlab_7_3_file_that_draws_on_other_files_is_refused(root, tmp_path):
    path = root / "label" / "train" / f"{NAME}_label.mat"
    path.unlink()
    (tmp_path / "secret.bin").write_bytes(bytes(256))
    with h5py.File(path, "w") as file:
        file.create_dataset("label", (16, 16), "uint8", external=[(str(tmp_path / "secret.bin"), 0, 256)])
    with pytest.raises(DataError, match="'label' draws on other files"):
        MTS12(root)


def test_an_original_file_of_other_shape_is_refused(tmp_path):
    write_mts12_original(tmp_path, months=7)
    with pytest.raises(DataError, match="7 x 16 x 16 x 6 where dates"):
        MTS12(tmp_path)


def test_the_authors_lists_decide_where_they_lie(root):
    write_data_lists(root, "MTS12", [f"image/train/{NAME}.tif"], ["image/test/eopatch_id_203_col_5_row_3.tif"])
    index = MTS12(root).index.set_index("tile")
    assert index["indomain"].value_counts().to_dict() == {"unlisted": 6, "train": 1, "test": 1}
    assert index.loc[NAME, "indomain"] == "train"


def test_blocks_are_cells_of_the_grid(tmp_path):
    cells = tuple((column, row) for column in range(12) for row in range(12, 24))
    index = MTS12(write_mts12(tmp_path, {"train": cells})).index
    place = zip(index["block"], index["col"] // 3, index["row"] // 3, strict=True)
    blocks = {}
    for block, column, row in place:
        blocks.setdefault(block, set()).add((column, row))
    assert len(blocks) == 16
    assert all(len(members) == 1 for members in blocks.values())


@pytest.mark.parametrize("protocol", load_protocols("mts12_region") + load_protocols("mts12_indomain"), ids=str)
def test_every_protocol_selects_disjoint_tiles_that_are_all_there_is(root, protocol):
    dataset = open_dataset(protocol.file, root)
    source, target = protocol.transfer.source.select(dataset.index), protocol.transfer.target.select(dataset.index)
    assert source.any()
    assert (source ^ target).all()
