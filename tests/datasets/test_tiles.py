import numpy as np
import pytest
from archives import random_image, random_label, write_own_tiles, write_tif

from spectral_tl_bench.config.protocols import ProtocolFile
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.user_tiles.tiles import Tiles
from spectral_tl_bench.utils.errors import DataError


def protocol_file(**changes):
    content = {
        "name": "coast",
        "title": "Coast to inland",
        "dataset": "tiles",
        "sensor": {
            "name": "drone",
            "bands": {"blue": 490, "green": 560, "red": 660, "nir": 840},
            "rgb": ["red", "green", "blue"],
        },
        "classes": [
            {"code": 10, "name": "trees", "color": "#00aa00"},
            {"code": 30, "name": "grass", "color": "#aaee00"},
        ],
        "ignore": "rest",
        "folder": {"tile": "name"},
        "source": {"region": "coast"},
        "target": {"region": "inland"},
        "by": "region",
        **changes,
    }
    return ProtocolFile.model_validate(content)


@pytest.fixture
def root(tmp_path):
    return write_own_tiles(tmp_path / "own")


def test_the_index_has_the_columns_of_the_csv_and_ours(root):
    index = open_dataset(protocol_file(), root).index
    assert {"name", "region", "sheet", "tile", "image", "label", "split", "height", "width", "block"} <= set(index)
    assert list(index["tile"])[:2] == ["000.tif", "001.tif"]
    assert set(index["split"]) == {"all"}


def test_samples_follow_the_protocol_file(root):
    sample = open_dataset(protocol_file(), root)[0]
    codes = random_label([10, 20, 30], 0)
    np.testing.assert_allclose(sample["image"].numpy(), random_image(4, 0) / 10_000, rtol=1e-6)
    np.testing.assert_array_equal(sample["mask"].numpy(), np.select([codes == 10, codes == 30], [0, 1], 255))


def test_a_code_neither_class_nor_ignored_is_refused(root):
    with pytest.raises(DataError, match="label code 20"):
        open_dataset(protocol_file(ignore=[0]), root)[0]


def test_a_column_can_keep_tiles_together(root):
    index = open_dataset(protocol_file(folder={"tile": "name", "block": "sheet"}), root).index
    assert list(index["block"]) == list(index["sheet"])


def test_without_a_column_runs_of_rows_within_a_sub_domain_keep_together(tmp_path):
    index = open_dataset(protocol_file(), write_own_tiles(tmp_path, tiles=80)).index
    sizes = index.groupby("block").size()
    assert set(sizes) == {4}
    assert index.groupby("block")["region"].nunique().max() == 1


def test_a_split_column_gives_the_splits(root):
    csv = root / "tiles.csv"
    lines = csv.read_text().splitlines()
    csv.write_text(
        "\n".join([f"{lines[0]},split", *(f"{line},{'fit' if i % 2 else 'rest'}" for i, line in enumerate(lines[1:]))])
    )
    assert len(open_dataset(protocol_file(), root, split="fit")) == 4
    with pytest.raises(DataError, match="choose one of rest, fit"):
        open_dataset(protocol_file(), root, split="train")


def test_a_changed_csv_counts_although_the_tiles_did_not_change(root):
    file = protocol_file()
    open_dataset(file, root)
    csv = root / "tiles.csv"
    csv.write_text(csv.read_text().replace("inland", "hills"))
    assert set(open_dataset(file, root).index["region"]) == {"coast", "hills"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "tiles.csv").unlink(), "cannot read the tile index .*it does not exist"),
        (lambda root: (root / "tiles.csv").write_text(""), "cannot read the tile index"),
        (lambda root: (root / "tiles.csv").write_bytes(b"\xff\xfe\x00"), "cannot read the tile index"),
        (lambda root: (root / "tiles.csv").write_text("name,area\n000.tif,x\n"), "no column 'region'"),
        (lambda root: (root / "tiles.csv").write_text("name,region\na,x\na,x\n"), "lists tile 'a' more than once"),
        (lambda root: (root / "images" / "003.tif").unlink(), r"images/003\.tif does not exist"),
        (lambda root: (root / "labels" / "003.tif").unlink(), r"labels/003\.tif does not exist"),
        (lambda root: write_tif(root / "images" / "003.tif", random_image(5)), "has 5 bands where drone has 4"),
        (lambda root: write_tif(root / "labels" / "003.tif", random_label([10], size=8)), "is 8 x 8 px but its image"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_refused_by_name(root, change, message):
    change(root)
    with pytest.raises(DataError, match=message):
        open_dataset(protocol_file(), root)


def test_a_protocol_about_an_archive_describes_no_tiles(root):
    file = ProtocolFile.model_validate(
        {"name": "a", "title": "A", "dataset": "whuohs", "source": {"side": "S"}, "target": {"side": "T"}, "by": "city"}
    )
    with pytest.raises(DataError, match="describes no sensor"):
        Tiles(root, file=file)


def test_bands_are_checked_against_each_protocol_file_although_the_index_is_cached(root):
    open_dataset(protocol_file(), root)
    wider = {"name": "five", "bands": {"a": 400, "b": 500, "c": 600, "d": 700, "e": 800}, "rgb": ["c", "b", "a"]}
    with pytest.raises(DataError, match="has 4 bands where five has 5"):
        open_dataset(protocol_file(sensor=wider), root)
