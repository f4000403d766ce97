"""What the encoder sees in pretraining, and what its loss is about."""

import pytest
import torch
from small_models import small_entry

from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.pretraining.decoders import HyperLinear
from spectral_tl_bench.pretraining.tasks import (
    BandPretraining,
    PlainPretraining,
    SpecAwarePretraining,
    charbonnier,
    pretraining_task,
)
from spectral_tl_bench.sensors import OHS, SENTINEL2

FAMILIES = {
    "vit_b_mae": PlainPretraining,
    "dofa_b": PlainPretraining,
    "spectral_mae_micro": BandPretraining,
    "specaware_micro": SpecAwarePretraining,
}
DECODER = {
    "reconstruction_decoder_width": 16,
    "reconstruction_decoder_depth": 1,
    "reconstruction_decoder_heads": 2,
    "band_dropping": 0.5,
}


def task_of(name, *sensors):
    torch.manual_seed(0)
    entry = small_entry(name)
    backbone = entry.wrap(entry.make(len(sensors[0].bands)), sensors[0])
    return pretraining_task(backbone, sensors, override(preset("quick"), DECODER))


@pytest.fixture(scope="module", params=FAMILIES)
def task(request):
    task = task_of(request.param, SENTINEL2)
    assert type(task) is FAMILIES[request.param]
    return task


def images_of(task, sensor=SENTINEL2):
    side = 2 * task.backbone.patch_size
    generator = torch.Generator().manual_seed(1)
    hidden = torch.tensor([[True, False, True, True], [False, True, True, True]])
    return torch.randn(2, len(sensor.bands), side, side, generator=generator), hidden


def spoiled(images, hidden, patch):
    """The same images with other pixels in the hidden patches."""
    pixels = hidden.view(2, 1, 2, 2).repeat_interleave(patch, -1).repeat_interleave(patch, -2)
    return torch.where(pixels, 7 * torch.randn_like(images), images)


def test_changing_hidden_pixels_changes_nothing_that_the_encoder_sees(task):
    images, hidden = images_of(task)
    task.eval()
    with torch.no_grad():
        other = spoiled(images, hidden, task.backbone.patch_size)
        assert torch.equal(task.reconstruct(images, hidden), task.reconstruct(other, hidden))
        shown = torch.where(images == other, images + 1, images)
        assert not torch.allclose(task.reconstruct(images, hidden), task.reconstruct(shown, hidden), atol=1e-3)


def test_mixed_precision_changes_little(task):
    images, hidden = images_of(task)
    task.eval()
    with torch.no_grad():
        torch.manual_seed(0)
        exact = task.error(images, hidden, hidden)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = task.error(images, hidden, hidden)
    assert mixed.item() == pytest.approx(exact.item(), rel=0.1)


def test_changing_dropped_bands_changes_nothing_that_the_encoder_sees():
    task = task_of("spectral_mae_micro", SENTINEL2)
    images, hidden = images_of(task)
    dropped = torch.zeros(2, 8, dtype=torch.bool)
    dropped[0, :4] = dropped[1, 4:] = True
    of_bands = (dropped.float() @ (task.backbone.tokenizer.shares > 0).float()) > 0
    with torch.no_grad():
        seen = task.encode(images, hidden, dropped)
        other = torch.where(of_bands[..., None, None], torch.randn_like(images), images)
        assert torch.equal(seen, task.encode(other, hidden, dropped))
        assert not torch.equal(seen, task.encode(images + 1, hidden, dropped))
    # The one visible patch, whichever bands it shows.
    assert seen.shape == (2, 1, 64)


def test_the_spectral_loss_is_about_what_was_hidden_or_dropped():
    task = task_of("spectral_mae_micro", SENTINEL2)
    images, hidden = images_of(task)

    def gradient_of_targets():
        """Which pixels are targets: those that the loss depends on while the encoder sees constants."""
        task.encode = lambda *_: torch.zeros(2, 1, 64)
        leaf = images.clone().requires_grad_()
        torch.manual_seed(0)
        dropped = task.drop(images)
        torch.manual_seed(0)
        task.error(leaf, hidden, hidden).backward()
        return leaf.grad != 0, dropped

    targets, dropped = gradient_of_targets()
    del task.encode
    patch = task.backbone.patch_size
    assert dropped.sum(dim=1).tolist() == [4, 4]
    of_bands = (dropped.float() @ (task.backbone.tokenizer.shares > 0).float()) > 0
    pixels = hidden.view(2, 1, 2, 2).repeat_interleave(patch, -1).repeat_interleave(patch, -2)
    assert torch.equal(targets, pixels | of_bands[..., None, None])


def test_specaware_restores_dropped_bands_that_it_has_not_seen(monkeypatch):
    task = task_of("specaware_micro", SENTINEL2).eval()
    images, hidden = images_of(task)
    torch.manual_seed(0)
    dropped = task.drop()
    assert dropped.sum() == 6
    of_bands = dropped.view(1, -1, 1, 1)
    with torch.no_grad():
        seen = task._restore(images, hidden, dropped)
        assert torch.equal(seen, task._restore(torch.where(of_bands, 7.0, images), hidden, dropped))
        assert not torch.equal(seen, task._restore(images + 1, hidden, dropped))
        assert seen.shape == task.targets(images).shape
    # Which pixels are targets: those that the loss depends on where what is restored is no function of the image.
    constant = torch.randn_like(seen)
    monkeypatch.setattr(task, "_restore", lambda *_: constant)
    leaf = images.clone().requires_grad_()
    torch.manual_seed(0)
    task.error(leaf, hidden, hidden).backward()
    patch = task.backbone.patch_size
    pixels = hidden.view(2, 1, 2, 2).repeat_interleave(patch, -1).repeat_interleave(patch, -2)
    assert torch.equal(leaf.grad != 0, pixels | of_bands)
    assert task.backbone.sensor == SENTINEL2


def test_as_published_specaware_is_given_every_band():
    task = task_of("specaware_micro", SENTINEL2)
    task.training_spec = override(task.training_spec, {"band_dropping": 0.0})
    assert not task.drop().any()


def test_one_model_restores_archives_of_several_sensors():
    for name in ("dofa_b", "spectral_mae_micro", "specaware_micro"):
        task = task_of(name, SENTINEL2, OHS)
        for number, sensor in enumerate((SENTINEL2, OHS)):
            task.archive = number
            images, hidden = images_of(task, sensor)
            assert task.reconstruct(images, hidden).shape == task.targets(images).shape


def test_a_perfect_restoration_has_no_specaware_loss(monkeypatch):
    task = task_of("specaware_micro", SENTINEL2)
    images, hidden = images_of(task)
    monkeypatch.setattr(task, "_restore", lambda images, *_: task.targets(images))
    assert task.error(images, hidden, hidden).item() == pytest.approx(0, abs=1e-5)
    monkeypatch.setattr(task, "_restore", lambda images, *_: -task.targets(images))
    assert task.error(images, hidden, hidden).item() > 2


def test_the_error_of_charbonnier_is_quadratic_for_small_differences():
    torch.testing.assert_close(charbonnier(torch.tensor([0.0, 0.01, -0.01])), torch.tensor([0.0, 5e-5, 5e-5]))
    assert charbonnier(torch.tensor(1e3)).item() == pytest.approx(999, abs=1e-2)


def test_the_generated_head_equals_its_explicit_matrices():
    torch.manual_seed(0)
    head = HyperLinear(16, 4).eval()
    torch.nn.init.normal_(head.bias[-1].weight)
    tokens, attributes = torch.randn(2, 5, 16), torch.randn(3, 128)
    with torch.no_grad():
        out = head(tokens, attributes)
        query = head.query(tokens.mean(dim=1))
        weights = torch.einsum("bq,btq->bt", query, head.key(tokens)).div(8).softmax(dim=1)
        content = head.content(torch.einsum("bt,btw->bw", weights, head.value(tokens))).unsqueeze(1)
        codes = head.fuse(attributes, content) + content
        matrices = torch.einsum(
            "bcpr,bcrw->bcpw", head.left(codes).view(2, 3, 16, 64), head.right(codes).view(2, 3, 64, 16)
        )
        expected = torch.einsum("bcpw,btw->btcp", matrices, tokens) + head.bias(codes).unsqueeze(1)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
