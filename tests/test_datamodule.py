import numpy as np
import pytest

from spectral_tl_bench.datamodule import ProtocolDataModule
from spectral_tl_bench.datasets.whuohs import WHUOHS
from spectral_tl_bench.errors import ProtocolError
from spectral_tl_bench.protocols import Domain, Transfer, load_protocols
from spectral_tl_bench.spec import override, preset


@pytest.fixture
def build(whuohs_root):
    (protocol,) = load_protocols("whu_region/s2t")
    dataset = WHUOHS(whuohs_root, ignore=protocol.file.ignore)

    def make(seed=0, transfer=None, **settings):
        training = override(preset("quick"), {"image_size": 16, "batch_size": 2, **settings})
        chosen = protocol if transfer is None else protocol.model_copy(update={"transfer": transfer})
        data = ProtocolDataModule(chosen, dataset, training, seed=seed)
        data.begin_stage("segmentation", steps=6, batch_size=2)
        return data

    return make


def test_source_held_out_and_target_share_no_tile(build):
    data = build()
    parts = [set(data.training), set(data.held_out), set(data.target)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    sides = data.tiles.index["side"]
    assert set(sides.iloc[sorted(parts[0] | parts[1])]) == {"S"}
    assert set(sides.iloc[sorted(parts[2])]) == {"T"}


def test_held_out_tiles_are_the_same_for_every_seed(build):
    assert np.array_equal(build(seed=1).held_out, build(seed=2).held_out)


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
    assert sorted(served) == sorted(data.tiles.index["tile"].iloc[data.target])
    assert next(iter(held_out))[0]["mask"].shape == (32, 32)


@pytest.mark.parametrize("sampler", ["uniform", "domain", "class"])
def test_every_sampler_draws_training_tiles_only(build, sampler):
    data = build(sampler=sampler)
    drawn = {position for position, _, _ in data.train_dataloader().sampler}
    assert drawn <= set(data.training)


def test_few_labels_thin_segmentation_but_not_reconstruction(build):
    data, few = build(), build(label_fraction=0.3)
    assert len(few.training) < len(data.training)
    few.begin_stage("reconstruction", steps=200, batch_size=2)
    assert {p for p, _, _ in few.train_dataloader().sampler} == set(data.training)


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
