import numpy as np
import pytest
from archives import DFC2020_TILES, random_image, random_label, write_data_lists, write_dfc2020, write_tif
from torchgeo.datasets import DatasetNotFoundError

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020, REGIONS
from spectral_tl_bench.utils.errors import DataError


@pytest.mark.parametrize("layout", ["spectralx", "public"])
def test_both_layouts_are_read_and_radar_and_coarse_labels_left_alone(tmp_path, layout):
    dataset = DFC2020(write_dfc2020(tmp_path, layout))
    counts = dataset.index.groupby(["season", "region"]).size().to_dict()
    assert counts == DFC2020_TILES
    assert dataset[0]["image"].shape == (13, 16, 16)
    assert not dataset.index["image"].str.contains("s1_|lc_").any()


def test_layouts_give_the_same_tiles(tmp_path):
    first = DFC2020(write_dfc2020(tmp_path / "a", "spectralx")).index
    second = DFC2020(write_dfc2020(tmp_path / "b", "public")).index
    assert list(first["tile"]) == list(second["tile"])
    assert list(first["block"]) == list(second["block"])
    assert list(first["indomain"]) == list(second["indomain"])


def test_both_layouts_under_one_root_count_every_tile_once(tmp_path):
    write_dfc2020(tmp_path, "spectralx")
    write_dfc2020(tmp_path, "public")
    dataset = DFC2020(tmp_path)
    assert dataset.index.groupby(["season", "region"]).size().to_dict() == DFC2020_TILES
    assert len(dataset.notes) == 1


def test_tiles_are_in_the_order_of_their_numbers(tmp_path):
    index = DFC2020(write_dfc2020(tmp_path)).index
    assert list(index.loc[index["region"] == "BlackForest", "number"]) == list(range(12))


def test_upper_case_names_are_read(tmp_path):
    stem = "ROIS0000_SPRING_{}_BLACKFOREST_P7.TIF"
    write_tif(tmp_path / "S2" / stem.format("S2"), random_image(13))
    write_tif(tmp_path / "DFC" / stem.format("DFC"), random_label([1, 2]))
    row = DFC2020(tmp_path).index.iloc[0]
    assert (row["season"], row["region"], row["number"]) == ("spring", "BlackForest", 7)


def test_codes_3_and_8_are_ignored_and_the_eight_others_keep_their_order(tmp_path):
    write_dfc2020(tmp_path, tiles={("spring", "BlackForest"): 1}, codes=range(11))
    dataset = DFC2020(tmp_path)
    assert [c.code for c in dataset.classes] == [1, 2, 4, 5, 6, 7, 9, 10]
    codes = random_label(range(11), 0)
    mask = dataset[0]["mask"].numpy()
    for code, wanted in {0: 255, 1: 0, 2: 1, 3: 255, 4: 2, 5: 3, 6: 4, 7: 5, 8: 255, 9: 6, 10: 7}.items():
        assert set(mask[codes == code]) == {wanted}


def test_an_unknown_code_is_refused_with_the_file(tmp_path):
    write_dfc2020(tmp_path, tiles={("spring", "BlackForest"): 1}, codes=[17])
    with pytest.raises(DataError, match=r"dfc_BlackForest_p0\.tif holds label code 17"):
        DFC2020(tmp_path)[0]


def test_our_in_domain_split_tests_about_three_tenths_of_every_region(tmp_path):
    tiles = {("spring", "BlackForest"): 40, ("summer", "Chabarovsk"): 20}
    index = DFC2020(write_dfc2020(tmp_path, tiles=tiles)).index
    assert set(index["indomain_source"]) == {"blocked"}
    for _, region in index.groupby("region"):
        assert 0.2 <= (region["indomain"] == "test").mean() <= 0.4
    assert (index["split"] == index["indomain"]).all()


def test_the_authors_lists_decide_where_they_lie(tmp_path):
    write_dfc2020(tmp_path, tiles={("spring", "BlackForest"): 5})
    path = "trainset/image/s2_BlackForest/ROIs0000_spring_s2_BlackForest_p{}.tif"
    write_data_lists(tmp_path, "DFC", [path.format(n) for n in (0, 3)], [path.format(n) for n in (1, 4)])
    index = DFC2020(tmp_path).index
    assert list(index["indomain"]) == ["train", "test", "unlisted", "train", "test"]
    assert set(index["indomain_source"]) == {"authors"}


def test_a_tile_in_both_lists_is_refused(tmp_path):
    write_dfc2020(tmp_path, tiles={("spring", "BlackForest"): 3})
    path = "ROIs0000_spring_s2_BlackForest_p1.tif"
    write_data_lists(tmp_path, "DFC", [path], [path])
    with pytest.raises(DataError, match="may train or test, not both"):
        DFC2020(tmp_path)


def test_lists_of_another_archive_are_left_alone(tmp_path):
    write_dfc2020(tmp_path, tiles={("spring", "BlackForest"): 3})
    path = "ROIs0000_spring_s2_BlackForest_p{}.tif"
    write_data_lists(tmp_path, "OTHER", [path.format(0)], [path.format(1)])
    assert set(DFC2020(tmp_path).index["indomain_source"]) == {"blocked"}


@pytest.mark.parametrize(
    "protocol", load_protocols("dfc_season") + load_protocols("dfc_indomain"), ids=lambda p: p.name
)
def test_every_protocol_selects_disjoint_tiles_that_are_all_there_is(tmp_path, protocol):
    dataset = open_dataset(protocol.file, write_dfc2020(tmp_path))
    source, target = protocol.transfer.source.select(dataset.index), protocol.transfer.target.select(dataset.index)
    assert source.any()
    assert target.any()
    assert not (source & target).any()
    left_out = dataset.index[~(source | target)]
    assert left_out.empty or "indomain" in protocol.transfer.source.where
    assert set(left_out["indomain"]) <= {"margin"}


def test_published_numbers_agree_with_each_other():
    assert sum(DFC2020.expected_counts["season"].values()) == 6114
    for protocol in load_protocols("dfc_season"):
        (season,) = protocol.transfer.source.where["season"]
        assert protocol.transfer.tiles == (sum(REGIONS[season].values()), 6114 - sum(REGIONS[season].values()))


def test_an_empty_folder_is_not_found(tmp_path):
    with pytest.raises(DatasetNotFoundError):
        DFC2020(tmp_path)


def test_samples_are_reflectance(tmp_path):
    dataset = DFC2020(write_dfc2020(tmp_path, tiles={("spring", "BlackForest"): 1}))
    np.testing.assert_allclose(dataset[0]["image"].numpy(), random_image(13, 0) / 10_000, rtol=1e-6)
