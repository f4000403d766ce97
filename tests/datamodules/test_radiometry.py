import pytest
import torch

from spectral_tl_bench.datamodules.radiometry import Augmentation, MinMax, SourceStatistics, band_statistics
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS


def test_statistics_standardise_the_tiles_they_come_from(whuohs_root):
    dataset = WHUOHS(whuohs_root)
    positions = range(6)
    normalise = SourceStatistics(*band_statistics(dataset, positions))
    images = normalise(torch.stack([dataset.read(p)["image"] for p in positions]))
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(32), atol=1e-3, rtol=0)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(32), atol=1e-2, rtol=0)


def test_min_max_stretches_every_band_of_every_image():
    images = MinMax()(torch.randn(3, 4, 8, 8) * 5 + 2)
    assert torch.equal(images.amin(dim=(2, 3)), torch.zeros(3, 4))
    torch.testing.assert_close(images.amax(dim=(2, 3)), torch.ones(3, 4))


@pytest.mark.parametrize("normalise", [SourceStatistics(torch.rand(4), torch.rand(4) + 0.5), MinMax()])
def test_undoing_the_normalisation_gives_the_reflectance_back(normalise):
    images = torch.randn(3, 4, 8, 8) * 5 + 2
    torch.testing.assert_close(normalise.undo(normalise(images), images), images)


def test_a_constant_band_stays_finite():
    assert MinMax()(torch.ones(1, 2, 4, 4)).isfinite().all()
    assert SourceStatistics(torch.ones(2), torch.zeros(2))(torch.ones(1, 2, 4, 4)).isfinite().all()


@pytest.fixture
def augmented():
    """Images whose single band is the class id, so that image and label must move together."""
    torch.manual_seed(0)
    masks = torch.randint(0, 5, (16, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    masks[:, :8, :8] = 255
    images = torch.where(masks == 255, 0, masks + 1).float().unsqueeze(1)
    return masks, *Augmentation(10)(images, masks)


def test_labels_keep_their_ids_and_move_with_the_image(augmented):
    masks, images, turned = augmented
    assert set(turned.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    assert not torch.equal(masks, turned)
    labelled = turned != 255
    # Away from class borders, where the image is interpolated, the image still shows the label.
    shown = images.squeeze(1).round().long() - 1
    assert (shown[labelled] == turned[labelled]).float().mean() > 0.85


def test_what_a_rotation_uncovers_is_ignored(augmented):
    _, images, turned = augmented
    outside = images.squeeze(1) == 0
    assert (turned[outside] == 255).float().mean() > 0.95


def test_augmentation_follows_the_seed():
    images, masks = torch.randn(4, 2, 16, 16), torch.randint(0, 3, (4, 16, 16))
    augment = Augmentation(10)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(images, masks)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(("degrees", "farthest"), [(10, 10), (90, 90)])
def test_rotations_go_as_far_as_asked(degrees, farthest):
    torch.manual_seed(0)
    (rotation,) = [m for m in Augmentation(degrees).geometry if type(m).__name__ == "RandomRotation"]
    angles = rotation.generate_parameters((500, 1, 8, 8))["degrees"]
    assert angles.min() < -0.9 * farthest
    assert 0.9 * farthest < angles.max() <= farthest


@pytest.mark.parametrize("degrees", [10.0, 90.0])
def test_processes_turn_and_flip_their_share_as_a_single_one_would(degrees):
    augmentation = Augmentation(degrees)
    images, masks = torch.randn(12, 3, 16, 16), torch.randint(4, (12, 16, 16))
    torch.manual_seed(0)
    whole = augmentation(images, masks)
    state = torch.get_rng_state()
    for rank in range(3):
        torch.manual_seed(0)
        share = slice(4 * rank, 4 * rank + 4)
        own = augmentation(images[share], masks[share], rank=rank, processes=3)
        for part, all_of_it in zip(own, whole, strict=True):
            assert torch.equal(part, all_of_it[share])
        # Masks and dropout are drawn after it.
        assert torch.equal(torch.get_rng_state(), state)
