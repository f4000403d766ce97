import math

import numpy as np
import pytest
import torch
from small_tasks import TRAINING, reconstruction, segmentation

from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.training.base import learning_rate_factor
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.reconstruction import (
    blank,
    cut,
    interpolated,
    mean_of_visible,
    nearest_visible,
    normalised_patches,
    random_mask,
)


def test_every_image_hides_the_same_share_of_different_patches():
    hidden = random_mask(4, 64, 0.75, torch.device("cpu"))
    assert hidden.sum(dim=1).tolist() == [48] * 4
    assert not torch.equal(hidden[0], hidden[1])


def test_blanking_hides_exactly_the_pixels_of_hidden_patches():
    images = torch.ones(1, 3, 16, 24)
    hidden = torch.zeros(1, 6, dtype=torch.bool)
    hidden[0, 4] = True  # second row, second column of 2 x 3 patches
    blanked = blank(images, hidden, 8)
    assert (blanked[:, :, 8:16, 8:16] == 0).all()
    assert blanked.sum() == images.sum() - 3 * 64


def test_patches_are_normalised_one_by_one():
    patches = normalised_patches(torch.randn(2, 3, 16, 16) * torch.linspace(1, 9, 16), 8)
    torch.testing.assert_close(patches.mean(dim=-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.std(dim=-1), torch.ones(2, 4), atol=1e-3, rtol=0)


def test_reconstruction_sees_nothing_of_hidden_pixels():
    task = reconstruction().eval()
    images = torch.randn(2, 13, 32, 32)
    hidden = random_mask(2, 16, 0.75, images.device)
    hidden_pixels = blank(torch.ones_like(images), hidden, 8) == 0
    changed = torch.where(hidden_pixels, torch.randn_like(images) * 10, images)
    with torch.no_grad():
        torch.nn.init.normal_(task.decoder.pixels.weight)
        assert torch.equal(task.reconstruct(images, hidden), task.reconstruct(changed, hidden))
        visible_changed = torch.where(hidden_pixels, images, images + 1)
        assert not torch.equal(task.reconstruct(images, hidden), task.reconstruct(visible_changed, hidden))


def test_restoring_pixels_starts_from_visible_spectra_weighted_by_their_distance():
    task = reconstruction().eval()
    images = torch.randn(2, 13, 32, 32)
    hidden = random_mask(2, 16, 0.75, images.device)
    restored = task.reconstruct(images, hidden).detach().unflatten(-1, (13, 64))
    means = torch.nn.functional.avg_pool2d(images, 8).flatten(2).mT
    for i in range(2):
        for patch in range(16):
            row, column = divmod(patch, 4)
            weights = {
                other: math.exp(-math.dist((row, column), divmod(other, 4)))
                for other in range(16)
                if not hidden[i, other]
            }
            expected = sum(w * means[i, other] for other, w in weights.items()) / sum(weights.values())
            torch.testing.assert_close(restored[i, patch], expected[:, None].expand(13, 64), atol=1e-4, rtol=1e-4)


def test_a_far_reach_is_the_mean_and_a_near_one_the_nearest():
    hidden = random_mask(2, 12, 0.5, torch.device("cpu"))
    patches = torch.randn(2, 12, 3 * 4).unflatten(-1, (3, 4)).mean(-1, keepdim=True).expand(-1, -1, -1, 4).flatten(2)
    far, near = (interpolated(patches, hidden, 3, (3, 4), reach) for reach in (1e5, 1e-2))
    torch.testing.assert_close(far, mean_of_visible(patches, hidden, 3), atol=1e-3, rtol=1e-3)
    visible = ~hidden
    torch.testing.assert_close(near[visible], patches[visible])


def test_the_reach_of_the_interpolation_is_learned():
    task = reconstruction()
    task.log = lambda *args, **kwargs: None
    task.training_step({"image": torch.randn(2, 13, 32, 32)}, 0).backward()
    assert task.log_reach.grad.abs() > 0


def test_a_methods_target_can_be_normalised_patch_by_patch(monkeypatch):
    images = torch.randn(2, 13, 32, 32) * 5 + 3
    for name, same in (("pixels", False), ("plain_pixels", False), ("normalised_patches", True)):
        monkeypatch.setattr(SpectralX, "reconstruction_target", name)
        task = reconstruction()
        assert torch.equal(task.targets(images), normalised_patches(images, 8)) == same
        assert torch.equal(task.targets(images), cut(images, 8)) != same


def test_the_reference_restores_pixels_as_they_are_as_its_released_code_does():
    task = reconstruction(variant="reference")
    task.log = lambda *args, **kwargs: None
    assert reconstruction().method.reconstruction_target == "pixels"
    assert task.method.reconstruction_target == "plain_pixels"
    assert not hasattr(task, "log_reach")
    images = torch.randn(2, 13, 32, 32)
    torch.manual_seed(0)
    loss = task.training_step({"image": images}, 0)
    torch.manual_seed(0)
    hidden = random_mask(2, 16, task.training_spec.mask_ratio, images.device)
    difference = task.reconstruct(images, hidden) - cut(images, 8)
    torch.testing.assert_close(loss, difference[hidden].square().mean())


def test_both_guesses_are_of_visible_patches_only():
    grid = (2, 4)
    # Patches of 3 bands and 1 pixel, which say where they are.
    patches = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 3)
    hidden = torch.tensor([[False, True, True, False, True, True, True, True]])
    assert nearest_visible(patches, hidden, grid)[0, :, 0].tolist() == [0, 0, 3, 3, 0, 0, 3, 3]
    assert mean_of_visible(patches, hidden, 3)[0, :, 0].tolist() == [1.5] * 8


def test_decoder_puts_tokens_back_in_their_places():
    decoder = ReconstructionDecoder(4, 2, 1, width=8, depth=0, num_heads=1).eval()
    encoded = torch.randn(1, 2, 4)
    there = decoder(encoded, torch.tensor([[5, 2]]), (2, 3))
    swapped = decoder(encoded.flip(1), torch.tensor([[2, 5]]), (2, 3))
    torch.testing.assert_close(there, swapped)
    assert there.shape == (1, 6, 4)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate_warms_up_and_then_follows_its_schedule(schedule):
    factors = [learning_rate_factor(step, 100, schedule, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == (1.0 if schedule == "constant" else pytest.approx(0, abs=1e-3))


def test_a_batch_without_labels_gives_no_loss_instead_of_nan():
    task = segmentation().train()
    task.log = lambda *args, **kwargs: None
    batch = {"image": torch.randn(2, 13, 32, 32), "mask": torch.full((2, 32, 32), 255)}
    assert float(task.training_step(batch, 0).detach()) == 0


@pytest.mark.parametrize("resolution", ["native", "resize"])
@pytest.mark.parametrize("size", [(32, 32), (50, 70), (20, 24)])
def test_predictions_have_the_size_of_the_tile(resolution, size):
    sample = {"image": torch.randn(13, *size), "mask": torch.zeros(size, dtype=torch.long), "tile": "a"}
    (prediction,) = segmentation(resolution=resolution).predict_tiles([sample])
    assert tuple(prediction.shape) == size


def test_windows_of_several_tiles_do_not_mix():
    task = segmentation()
    samples = [{"image": torch.randn(13, s, s), "tile": str(s)} for s in (32, 64, 40)]
    together = task.predict_tiles(samples)
    for sample, prediction in zip(samples, together, strict=True):
        assert torch.equal(task.predict_tiles([sample])[0], prediction)


def test_scoring_counts_every_labelled_pixel_once():
    task = segmentation()
    mask = torch.randint(0, 5, (48, 48))
    mask[:5] = 255
    task.test_step([{"image": torch.randn(13, 48, 48), "mask": mask, "tile": "a"}], 0, 1)
    ((key, matrix),) = task.confusions
    assert key == ("target", "a")
    assert np.array_equal(matrix.sum(axis=1), torch.bincount(mask[5:].flatten(), minlength=5).numpy())


def test_the_tokenizer_learns_at_its_own_rate():
    module = segmentation(tokenizer_learning_rate_factor=0.25, decoder_learning_rate=None, patch_embedding_step=None)
    optimizer = module.configure_optimizers()["optimizer"]
    # Warm-up scales every group alike.
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    tokenizer = [rates[id(p)] for p in module.backbone.tokenizer.parameters()]
    others = [rates[id(p)] for p in module.segmenter.decoder.parameters()]
    assert len(rates) == len([p for p in module.parameters() if p.requires_grad])
    assert tokenizer
    assert max(tokenizer) == pytest.approx(0.25 * min(others))


@pytest.mark.parametrize(("name", "beta2"), [("reference", 0.95), ("standard", 0.999)])
def test_the_published_setup_has_the_same_betas_in_both_stages(name, beta2):
    task = segmentation(segmentation_beta2=preset(name).segmentation_beta2)
    (betas,) = {group["betas"] for group in task.configure_optimizers()["optimizer"].param_groups}
    assert betas == (0.9, beta2)


# A patch of 8 x 8 x 13 inputs; the pixel path's kernels have 2 x 2 x 13 and 4 x 4 x 16.
@pytest.mark.parametrize(("factor", "fine", "coarse"), [(0.01, 0.16, 0.0325), (0.5, 1, 1), (2, 2, 2)])
def test_kernels_of_fewer_inputs_learn_faster_but_not_faster_than_the_decoder(factor, fine, coarse):
    module = segmentation("spectralx", tokenizer_learning_rate_factor=factor, decoder_learning_rate=None)
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    usual = rates[id(next(module.segmenter.decoder.parameters()))]
    first, second = module.backbone.tokenizer.pixels
    assert rates[id(first.weight)] == pytest.approx(fine * usual)
    assert rates[id(second.weight)] == pytest.approx(coarse * usual)
    assert rates[id(module.backbone.tokenizer.scale)] == pytest.approx(factor * usual)


def test_the_decoder_learns_at_a_rate_of_its_own():
    task = segmentation("full", learning_rate=1e-3, tokenizer_learning_rate_factor=0.1, decoder_learning_rate=4e-3)
    optimizer = task.configure_optimizers()["optimizer"]
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    parts = {task.segmenter.decoder: 4e-3, task.backbone.blocks: 1e-3, task.backbone.tokenizer: 1e-4}
    for part, rate in parts.items():
        assert {round(rates[id(p)], 9) for p in part.parameters()} == {rate}


@pytest.mark.parametrize(("variant", "relative"), [("default", 0.1), ("reference", 1.0)])
def test_what_refines_tokens_after_the_taps_says_how_fast_it_learns(variant, relative):
    options = {"variant": variant, "stage1": False}
    task = segmentation("spectralx", options=options, learning_rate=1e-3, decoder_learning_rate=4e-3)
    groups = task.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    refiner = [p for p in task.backbone.after_tap.parameters() if p.requires_grad]
    assert refiner
    assert {round(rates[id(p)], 9) for p in refiner} == {1e-3 * relative}


@pytest.mark.parametrize(("step", "rate"), [(None, 2e-4), (0.01, 1e-5), (1.0, 2e-4)])
def test_small_kernels_of_a_patch_embedding_learn_in_steps_of_their_size(step, rate):
    settings = {"tokenizer_learning_rate_factor": 0.1, "learning_rate": 2e-3, "patch_embedding_step": step}
    task = segmentation(kernel_size=1e-3, **settings)
    kernels, _ = task.backbone.tokenizer.kernels()
    # Their size as training begins counts, whenever a process goes on with it.
    kernels.data.mul_(50)
    optimizer = task.configure_optimizers()["optimizer"]
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(kernels)] == pytest.approx(rate)
    assert rates[id(task.backbone.tokenizer.projection.bias)] == pytest.approx(2e-4)


def test_reconstruction_sees_enlarged_images():
    task = reconstruction()
    task.log = lambda *args, **kwargs: None
    task.training_spec = override(TRAINING, {"upsample": 2})
    grids = []
    task.decoder.register_forward_hook(lambda _, given, restored: grids.append(given[2]))
    task.training_step({"image": torch.randn(2, 13, 32, 32)}, 0)
    assert grids == [(8, 8)]


@pytest.mark.parametrize("method_name", ["spectralx", "lora", "vpt", "rein"])
def test_activations_computed_again_give_the_same_gradients(method_name):
    batch = {"image": torch.randn(2, 13, 32, 32), "mask": torch.randint(5, (2, 32, 32))}
    gradients = []
    for again in (False, True):
        task = segmentation(method_name).train()
        task.log = lambda name, value: None
        task.backbone.recomputes = again
        torch.manual_seed(1)  # noise of the routers
        task.training_step(batch, 0).backward()
        gradients.append({name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[1][name], gradient) for name, gradient in gradients[0].items())
