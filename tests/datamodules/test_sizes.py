"""Tiles smaller and larger than the model's window: padding that does not count, pieces that add up."""

import math

import numpy as np
import pytest
import torch
from archives import write_own_tiles
from small_tasks import reconstruction, segmentation

from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.datamodules import radiometry, windows
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datamodules.radiometry import Augmentation, band_statistics
from spectral_tl_bench.datamodules.windows import WholeTiles, blank_outside, inside, pieces, sliding_windows
from spectral_tl_bench.records.metrics import confusion_matrix
from spectral_tl_bench.runs.defaults import fitted_image_size
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests

PROTOCOL = """
title: From the coast inland
dataset: tiles
sensor: {name: four, bands: {b: 490, g: 560, r: 660, n: 840}}
classes: [{code: 10, name: trees, color: "#00aa00"}, {code: 20, name: grass, color: "#aaff00"}]
ignore: rest
folder: {tile: name, block: sheet}
source: {region: coast}
target: {region: inland}
by: region
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "own.yaml").write_text(PROTOCOL)

    def make(size, **training):
        root = folder / f"own{size}"
        if not root.exists():
            write_own_tiles(root, size=size)
        asked = requests("frozen", str(folder / "own.yaml"), root=root, preset_name="quick", training=training)
        return plan(asked[0])

    return make


@pytest.mark.parametrize(("size", "expected"), [(40, 40), (44, 40), (64, 64), (80, 64), (10, 16)])
def test_windows_are_no_larger_than_tiles_and_hold_whole_patches(planned, size, expected):
    ready = planned(size)
    assert ready.spec.training.image_size == expected
    assert any("image_size is" in note for note in ready.notes) == (expected != 64)
    assert any("8 of 8 tiles are smaller" in note for note in ready.notes) == (size == 10)


def test_a_size_that_was_asked_for_stays(planned):
    ready = planned(40, image_size=64)
    assert ready.spec.training.image_size == 64
    (note,) = ready.notes
    assert note.startswith("8 of 8 tiles are smaller than image_size 64: they are padded")


def test_one_small_tile_does_not_lower_the_windows_of_the_others():
    assert fitted_image_size(224, 16, [256, 256, 20]) == 224


def batch_of(planned, **settings):
    ready = planned(16)
    small = {"image_size": 32, "batch_size": 2, "segmentation_steps": 1, "validations": 1, **settings}
    data = ProtocolDataModule(ready.split, ready.dataset, override(preset("quick"), small), seed=0)
    data.begin_stage("segmentation")
    return data, data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


@pytest.mark.parametrize("rule", ["source_statistics", "minmax"])
def test_what_is_added_to_a_tile_is_the_mean_and_ignored(planned, rule):
    _, batch = batch_of(planned, radiometry=rule)
    assert batch["image"].shape == (2, 4, 32, 32)
    assert batch["inside"].sum(dim=(1, 2)).tolist() == [256, 256]
    assert not batch["image"][:, :, 16:].any()
    assert not batch["image"][:, :, :, 16:].any()
    assert batch["image"][:, :, :16, :16].any()
    assert (batch["mask"][~batch["inside"]] == 255).all()
    # The tile's own part is what it is without anything added.
    _, alone = batch_of(planned, radiometry=rule, image_size=16)
    assert "inside" not in alone
    torch.testing.assert_close(batch["image"][:, :, :16, :16], alone["image"])


def test_augmentation_turns_what_was_added_with_the_image():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32) + 1
    where = inside(20, 12, 32).repeat(8, 1, 1)
    images, masks, turned = Augmentation(10.0)(blank_outside(images, where), torch.where(where, 1, 255), where)
    assert torch.equal(masks == 1, turned)
    assert (images.abs().sum(dim=1)[turned] > 0).float().mean() > 0.95
    assert len({tuple(row.any(dim=0).tolist()) for row in turned}) > 1


def test_added_patches_are_not_reconstructed():
    task = reconstruction()
    task.log = lambda *args, **kwargs: None
    where = inside(16, 24, 32).repeat(2, 1, 1)

    def loss(fill):
        torch.manual_seed(1)
        images = torch.randn(2, 13, 32, 32) * where.unsqueeze(1)
        seen = []
        task.targets = lambda given: (seen.append(given), type(task).targets(task, given))[1]
        task.reconstruct = lambda given, hidden: type(task).targets(task, given) * 0 + fill * outside_patches
        return float(task.training_step({"image": images, "inside": where}, 0).detach())

    outside_patches = torch.ones(2, 16, 1)
    outside_patches[:, [0, 1, 2, 4, 5, 6]] = 0
    # Whatever is made of the patches outside, the loss is the same.
    assert loss(0.0) == loss(1e6)


def test_a_batch_with_nothing_of_its_own_hidden_gives_a_number():
    task = reconstruction()
    task.log = lambda *args, **kwargs: None
    batch = {"image": torch.zeros(2, 13, 32, 32), "inside": torch.zeros(2, 32, 32, dtype=torch.bool)}
    assert math.isfinite(float(task.training_step(batch, 0).detach()))


@pytest.mark.parametrize(("height", "width"), [(100, 100), (97, 64), (16, 200), (33, 17), (96, 96), (10, 300)])
@pytest.mark.parametrize("most", [2, 3, 7])
def test_pieces_have_the_windows_of_the_whole_tile(monkeypatch, height, width, most):
    size = 16
    monkeypatch.setattr(windows, "LARGEST_PIECE", 4 * (most * size) ** 2)
    image = torch.arange(height * width).view(1, height, width)
    padded = torch.nn.functional.pad(image, (0, max(0, size - width), 0, max(0, size - height)))
    whole = sorted((top, left) for top, left, _ in sliding_windows(padded, size))
    found, count = [], np.zeros((height, width), dtype=int)
    for top, left, rows, columns in pieces(height, width, size, 1):
        count[top : top + rows, left : left + columns] += 1
        piece = image[:, top : top + rows, left : left + columns]
        piece = torch.nn.functional.pad(piece, (0, max(0, size - columns), 0, max(0, size - rows)))
        found += [(top + t, left + x) for t, x, _ in sliding_windows(piece, size)]
        assert rows * columns <= ((most + 1) * size) ** 2
    assert sorted(found) == whole
    assert (count == 1).all()


def test_a_tile_in_pieces_has_the_counts_of_the_whole_tile(planned, monkeypatch):
    ready = planned(112)
    data = ProtocolDataModule(ready.split, ready.dataset, override(preset("quick"), {"image_size": 32}), seed=0)
    task = segmentation(image_size=32)
    task.num_classes = 2
    # A stand-in that looks at every pixel's place in its window, so that another window would show.
    pattern = torch.linspace(-1, 1, 32).view(1, -1, 1) + torch.linspace(-1, 1, 32).view(1, 1, -1)
    task._forward = lambda images: torch.stack([torch.stack([i[0] + pattern[0], i[1]]) for i in images])
    scored = []
    task.on_scored = lambda found: scored.extend((key.tile, matrix) for key, matrix in found)

    def score():
        scored.clear()
        task.on_test_epoch_start()
        for batch in data.test_dataloader()[1]:
            task.test_step(data.on_after_batch_transfer(batch, 1), 0, 1)
        return dict(scored)

    whole = score()
    monkeypatch.setattr(windows, "LARGEST_PIECE", 4 * 4 * 48**2)
    assert len(WholeTiles(ready.dataset, [0], 32)) == 4
    in_pieces = score()
    assert list(in_pieces) == list(whole)
    assert all(np.array_equal(in_pieces[tile], whole[tile]) for tile in whole)
    sample = ready.dataset[int(ready.split.target[0])]
    assert in_pieces[sample["tile"]].sum() == confusion_matrix(sample["mask"], sample["mask"], 2, 255).sum()


def test_statistics_of_a_large_tile_are_summed_up_in_strips(planned, monkeypatch):
    dataset = planned(80).dataset
    whole = band_statistics(dataset, [0, 1])
    monkeypatch.setattr(radiometry, "_LARGEST_STRIP", 8 * 4 * 80 * 7)
    for strip, total in zip(band_statistics(dataset, [0, 1]), whole, strict=True):
        torch.testing.assert_close(strip, total)
