"""What masked reconstruction makes of held-out source tiles."""

import numpy as np
import pytest
import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.reconstruction import MaskedReconstruction
from spectral_tl_bench.training.reconstruction_report import Reconstructions

CPU = torch.device("cpu")


class Perfect(MaskedReconstruction):
    """Knows every patch."""

    def reconstruct(self, images, hidden):
        return self.targets(images)


def task(data, cls=MaskedReconstruction, method="spectralx", **options):
    torch.manual_seed(0)
    backbone = build_backbone("vit_micro", data.tiles.sensor)
    method = build_method(method, options)
    method.apply(backbone)
    method.begin_stage(backbone, "reconstruction")
    decoder = ReconstructionDecoder(192, 8, 32, width=16, depth=1, num_heads=2)
    return cls(backbone, method, data.training_spec, decoder)


@pytest.mark.parametrize("radiometry", ["source_statistics", "minmax"])
@pytest.mark.parametrize("resolution", ["native", "resize"])
def test_a_perfect_model_gives_the_reflectance_back(data, radiometry, resolution):
    module = data(radiometry=radiometry, resolution=resolution)
    for example in Reconstructions.of(task(module, Perfect), module, CPU).examples:
        np.testing.assert_allclose(example.restored, example.image, atol=1e-4)
        assert example.errors.pixels.model < 1e-6


def test_only_hidden_pixels_change_and_their_share_is_the_spec_s(data):
    module = data()
    examples = Reconstructions.of(task(module), module, CPU).examples
    assert len(examples) == 4
    for example in examples:
        assert example.hidden.mean() == 0.75
        visible = ~example.hidden
        assert np.array_equal(example.restored[:, visible], example.image[:, visible])
        assert np.abs(example.restored - example.image)[:, example.hidden].max() > 1e-3


def test_pictures_are_of_held_out_source_tiles_only(data):
    module = data()
    names = set(module.tiles.index["tile"].iloc[module.split.held_out])
    shown = [example.tile for example in Reconstructions.of(task(module), module, CPU).examples]
    assert set(shown) <= names
    assert len({module.split.subdomains[name] for name in shown}) == 4


def test_drawing_repeats_itself_and_leaves_training_as_it_was(data):
    module = data()
    shown = task(module)
    shown.decoder.eval()
    modes = [part.training for part in shown.modules()]
    tensors = {name: tensor.clone() for name, tensor in shown.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = (Reconstructions.of(shown, module, CPU).examples for _ in range(2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert [part.training for part in shown.modules()] == modes
    assert all(torch.equal(shown.state_dict()[name], tensor) for name, tensor in tensors.items())
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.restored, other.restored)


@pytest.mark.parametrize("variant", ["default", "reference"])
def test_a_perfect_model_beats_both_guesses(data, variant):
    module = data()
    for kind in ("pixels", "spectra"):
        errors = getattr(Reconstructions.of(task(module, Perfect, variant=variant), module, CPU).errors, kind)
        assert errors.model < 1e-6 < min(errors.mean_of_visible, errors.nearest_visible)


def test_errors_are_over_all_held_out_tiles_and_the_picture_shows_a_few(data):
    module = data()
    found = Reconstructions.of(task(module), module, CPU)
    assert len(module.split.held_out) > len(found.examples) == 4
    mean = np.mean([example.errors.spectra.nearest_visible for example in found.examples])
    assert found.errors.spectra.nearest_visible != pytest.approx(mean, rel=1e-3)


def test_the_caption_says_where_the_tokenizer_sees_hidden_pixels(data):
    module = data()
    for variant, expected in (("default", False), ("reference", True)):
        shown = task(module, variant=variant)
        figure = Reconstructions.of(shown, module, CPU).figure(shown, module, "SIMULATED: x")
        texts = " ".join(text.get_text() for part in figure.subfigs for text in part.texts).replace("\n", " ")
        assert "of the normalised image" in texts
        assert ("sees the whole image" in texts) == expected
        assert figure.subfigs[0].get_suptitle().startswith("SIMULATED: x")


def test_the_caption_says_where_patches_are_normalised_one_by_one(data, monkeypatch):
    monkeypatch.setattr(SpectralX, "reconstruction_target", "normalised_patches")
    module = data()
    shown = task(module)
    figure = Reconstructions.of(shown, module, CPU).figure(shown, module, "SIMULATED: x")
    texts = " ".join(text.get_text() for part in figure.subfigs for text in part.texts).replace("\n", " ")
    assert "Their own mean and deviation" in texts
