import itertools

import numpy as np
import pytest
import torch

from spectral_tl_bench.config.domains import Domain, Transfer
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datamodules.radiometry import MinMax
from spectral_tl_bench.datamodules.windows import resize_sample
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.splits.assignment import split_tiles
from spectral_tl_bench.utils.errors import ProtocolError
from spectral_tl_bench.utils.registry import SAMPLERS

SMALL = {
    "image_size": 16,
    "batch_size": 2,
    "segmentation_steps": 6,
    "reconstruction_steps": 200,
    "reconstruction_batch_size": 2,
    "validations": 1,
}


@pytest.fixture
def build(whuohs_root):
    (protocol,) = load_protocols("whu_region/s2t")
    dataset = WHUOHS(whuohs_root, ignore=protocol.file.ignore)

    def make(seed=0, transfer=None, **settings):
        training = override(preset("quick"), {**SMALL, **settings})
        chosen = protocol if transfer is None else protocol.model_copy(update={"transfer": transfer})
        split = split_tiles(chosen, dataset.index, training.held_out_fraction)
        data = ProtocolDataModule(split, dataset, training, seed=seed)
        data.begin_stage("segmentation")
        return data

    return make


def test_source_held_out_and_target_share_no_tile(build):
    data = build()
    parts = [set(data.training), set(data.split.held_out), set(data.split.target)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    sides = data.tiles.index["side"]
    assert set(sides.iloc[sorted(parts[0] | parts[1])]) == {"S"}
    assert set(sides.iloc[sorted(parts[2])]) == {"T"}


def test_held_out_tiles_are_the_same_for_every_seed(build):
    assert np.array_equal(build(seed=1).split.held_out, build(seed=2).split.held_out)


def test_training_batches_have_the_model_size_and_number_of_steps(build):
    batches = list(build().train_dataloader())
    assert len(batches) == 6
    assert all(b["image"].shape == (2, 32, 16, 16) and b["mask"].shape == (2, 16, 16) for b in batches)


def test_resized_training_shows_whole_tiles(build):
    (batch, *_) = build(resolution="resize").train_dataloader()
    assert batch["image"].shape == (2, 32, 16, 16)


def test_scoring_serves_every_tile_once_and_whole(build):
    data = build()
    held_out, target = data.test_dataloader()
    served = [sample["tile"] for batch in target for sample in batch]
    assert sorted(served) == sorted(data.tiles.index["tile"].iloc[data.split.target])
    assert next(iter(held_out))[0]["mask"].shape == (32, 32)


@pytest.mark.parametrize("sampler", SAMPLERS.built_in)
def test_every_sampler_draws_training_tiles_only(build, sampler):
    data = build(sampler=sampler)
    drawn = {position for position, _, _ in data.train_dataloader().batch_sampler.keys}
    assert drawn <= set(data.training)


def labelled_pixels(data):
    """Labelled pixels of every training tile, as segmentation sees them in one window the size of a tile."""
    windows = data.windows()
    windows.size = int(max(windows.heights.max(), windows.widths.max()))
    return {int(p): windows[int(p), 0, 0]["mask"] != IGNORE_INDEX for p in data.training}


def test_every_share_of_labels_exists_and_is_among_the_larger_ones(build):
    few = [labelled_pixels(build(label_fraction=fraction)) for fraction in (0.01, 0.02, 0.05, 0.15, 0.5)]
    counts = [sum(int(mask.sum()) for mask in tiles.values()) for tiles in few]
    assert 0 < counts[0] < counts[1] < counts[2] < counts[3] < counts[4]
    for small, large in itertools.pairwise(few):
        assert all(not (mask & ~large[row]).any() for row, mask in small.items())
    everything = build()
    area = (everything.tiles.index["height"] * everything.tiles.index["width"]).iloc[everything.split.training].sum()
    assert build(label_fraction=0.05).labelled.share == pytest.approx(0.05, rel=0.1)
    assert counts[4] <= 0.55 * area


def test_training_windows_of_few_labels_have_labels(build):
    data = build(label_fraction=0.01, image_size=16)
    assert not data.labelled.whole
    for key in set(data.train_dataloader().batch_sampler.keys):
        mask = data.windows()[key]["mask"]
        assert (mask != IGNORE_INDEX).any(), key


def test_few_labels_thin_segmentation_but_not_reconstruction(build):
    data, few = build(), build(label_fraction=0.3)
    assert len(few.training) < len(data.training)
    few.begin_stage("reconstruction")
    assert {p for p, _, _ in few.train_dataloader().batch_sampler.keys} == set(data.training)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": Domain.model_validate({"side": "nowhere"})}, "selects no source tiles"),
        ({"target": Domain.model_validate({"side": ["S", "T"]})}, "both source and target"),
        ({"target": Domain.model_validate({"sides": "T"})}, "attribute 'sides' is not in the tile index"),
        ({"by": "town"}, "'by: town' is not among"),
    ],
)
def test_protocols_that_do_not_fit_the_tiles_are_refused(build, change, message):
    (protocol,) = load_protocols("whu_region/s2t")
    fields = {"source": protocol.transfer.source, "target": protocol.transfer.target, "by": "city", **change}
    with pytest.raises(ProtocolError, match=message):
        build(transfer=Transfer(**fields))


def test_the_digest_of_a_split_follows_its_tiles_and_their_parts(build):
    index = build().tiles.index
    (there,), (back,) = load_protocols("whu_region/s2t"), load_protocols("whu_region/t2s")
    assert split_tiles(there, index, 0.1).digest(index) != split_tiles(back, index, 0.1).digest(index)
    assert split_tiles(there, index, 0.1).digest(index) != split_tiles(there, index, 0.6).digest(index)
    shuffled = index.sample(frac=1, random_state=0).reset_index(drop=True)
    assert split_tiles(there, shuffled, 0.1).digest(shuffled) == split_tiles(there, index, 0.1).digest(index)


def test_an_in_domain_split_says_who_drew_it(tmp_path):
    from spectral_tl_bench.datasets.archives.mts12 import MTS12
    from spectral_tl_bench.simulation import simulate_archive

    (protocol,) = load_protocols("mts12_indomain")
    index = MTS12(simulate_archive("mts12", tmp_path / "small", tile_size=8)).index
    assert split_tiles(protocol, index, 0.1).origin == "blocked"
    (transfer,) = load_protocols("mts12_region/n2s")
    assert split_tiles(transfer, index, 0.1).origin is None


@pytest.mark.parametrize("resolution", ["native", "resize"])
def test_batches_hold_stored_values_until_they_are_normalised_as_reflectance(build, resolution):
    data = build(resolution=resolution, augmentation=False)
    (batch, *_) = data.train_dataloader()
    assert batch["image"].float().max() > 100
    with torch.no_grad():
        normalised = data.on_after_batch_transfer(batch, 0)["image"]
        expected = data.radiometry(batch["image"].float() / data.tiles.sensor.scale)
    torch.testing.assert_close(normalised, expected)


def test_each_tile_is_stretched_by_its_own_extremes_before_it_is_resized(build):
    data = build(resolution="resize", radiometry="minmax", augmentation=False)
    loader = data.train_dataloader()
    position = next(iter(loader.batch_sampler.keys))[0]
    (batch, *_) = loader
    served = data.on_after_batch_transfer(batch, 0)["image"][0]
    tile = data.tiles[position]
    stretched = {**tile, "image": MinMax()(tile["image"][None])[0]}
    torch.testing.assert_close(served, resize_sample(stretched, 16)["image"])
    resized_first = MinMax()(resize_sample(tile, 16)["image"][None])[0]
    assert not torch.allclose(served, resized_first, atol=1e-2)


def test_scored_tiles_are_normalised_like_the_dataset_s_own_samples(build):
    data = build()
    loader, _ = data.test_dataloader()
    (sample, *_) = data.on_after_batch_transfer(next(iter(loader)), 0)
    own = data.tiles[int(data.split.held_out[0])]
    assert sample["tile"] == own["tile"]
    torch.testing.assert_close(sample["image"], data.radiometry(own["image"][None])[0])
