import numpy as np
import pytest
import torch

from spectral_tl_bench.datamodules.windows import (
    as_batch,
    class_histogram,
    offsets,
    pad_sample,
    resize_sample,
    sliding_windows,
)


@pytest.mark.parametrize(("length", "size"), [(500, 224), (512, 224), (64, 64), (65, 64), (60, 64), (128, 64)])
def test_windows_cover_every_pixel_and_stay_inside(length, size):
    covered = np.zeros(max(length, size), dtype=int)
    for start in offsets(length, size):
        assert 0 <= start <= max(0, length - size)
        covered[start : start + size] += 1
    assert covered.min() >= 1


def test_windows_of_a_multiple_do_not_overlap():
    assert offsets(192, 64) == [0, 64, 128]


def test_sliding_windows_give_back_the_image():
    image = torch.arange(2 * 5 * 7).reshape(2, 5, 7).float()
    rebuilt = torch.full_like(image, -1)
    for top, left, window in sliding_windows(image, 3):
        assert window.shape == (2, 3, 3)
        rebuilt[:, top : top + 3, left : left + 3] = window
    assert torch.equal(rebuilt, image)


def test_padding_repeats_the_edge_and_ignores_the_new_labels():
    sample = {"image": torch.ones(2, 3, 4) * 7, "mask": torch.zeros(3, 4, dtype=torch.long), "tile": "a"}
    padded = pad_sample(sample, 5, 5)
    assert padded["image"].shape == (2, 5, 5)
    assert (padded["image"] == 7).all()
    assert (padded["mask"][3:] == 255).all()
    assert (padded["mask"][:, 4] == 255).all()
    assert (padded["mask"][:3, :4] == 0).all()


def test_resizing_keeps_labels_whole():
    mask = torch.tensor([[0, 255], [3, 1]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    resized = resize_sample({"image": torch.rand(3, 16, 16), "mask": mask, "tile": "a"}, 4)
    assert resized["image"].shape == (3, 4, 4)
    assert resized["mask"].tolist() == [[0, 0, 255, 255], [0, 0, 255, 255], [3, 3, 1, 1], [3, 3, 1, 1]]


def test_histogram_leaves_ignored_pixels_out():
    assert class_histogram(torch.tensor([[0, 2], [255, 2]]), 4).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float64"])
def test_padding_takes_every_type_on_disk(dtype):
    image = torch.from_numpy(np.arange(12).reshape(1, 3, 4).astype(dtype))
    padded = pad_sample({"image": image, "mask": torch.zeros(3, 4, dtype=torch.long), "tile": "a"}, 4, 5)["image"]
    assert padded.dtype == image.dtype
    assert padded[0].tolist()[-1] == [8, 9, 10, 11, 11]


def test_windows_of_files_of_different_types_form_one_batch():
    samples = [
        {"image": torch.from_numpy(np.full((1, 2, 2), 5, dtype)), "mask": torch.zeros(2, 2).long(), "tile": dtype}
        for dtype in ("uint16", "int16", "float32")
    ]
    assert as_batch(samples[:1])["image"].dtype == torch.uint16
    assert torch.equal(as_batch(samples)["image"], torch.full((3, 1, 2, 2), 5.0))
