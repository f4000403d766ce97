import pytest

from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.methods import method_class, method_names
from spectral_tl_bench.runs.defaults import default_upsample, patch_size, training_of
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import BACKBONES


@pytest.mark.parametrize(("name", "patch"), [("vit_micro", 8), ("dinov2_s", 14), ("scalemae_l", 16)])
def test_the_patch_of_a_backbone_is_known_without_its_weights(name, patch):
    assert patch_size(name) == patch


@pytest.mark.parametrize(
    ("patch", "image_size", "upsample"),
    [(8, 64, 1), (14, 64, 2), (16, 64, 2), (16, 128, 2), (16, 224, 1), (14, 512, 1), (32, 64, 4), (4, 64, 1)],
)
def test_a_token_covers_few_pixels_unless_that_costs_much(patch, image_size, upsample):
    assert default_upsample(patch, image_size) == upsample


def test_the_record_says_what_was_chosen():
    training = training_of("quick", "frozen", "dinov2_s", {"segmentation_steps": 9, "validations": 1})
    assert (training.upsample, training.segmentation_steps) == (2, 9)
    assert training_of("quick", "frozen", "vit_micro", {}).upsample == 1
    assert training_of("quick", "frozen", "dinov2_s", {"resolution": "resize"}).upsample == 1


@pytest.mark.parametrize("method", method_names())
def test_every_method_has_a_learning_rate_of_its_own_that_the_user_overrides(method):
    usual = preset("quick")
    factor = method_class(method).learning_rate_factor
    assert 0.01 <= factor <= 100
    chosen = training_of("quick", method, "vit_micro", {})
    assert chosen.learning_rate == pytest.approx(factor * usual.learning_rate)
    assert chosen.decoder_learning_rate == usual.decoder_learning_rate
    larger = training_of("quick", method, "dinov2_s", {})
    assert larger.learning_rate == pytest.approx(factor * preset("standard").learning_rate)
    assert larger.decoder_learning_rate == usual.decoder_learning_rate
    assert chosen.reconstruction_learning_rate == usual.reconstruction_learning_rate
    assert larger.reconstruction_learning_rate == preset("standard").reconstruction_learning_rate
    asked = training_of("quick", method, "vit_micro", {"learning_rate": "3e-4", "upsample": "3"})
    assert (asked.learning_rate, asked.upsample) == (3e-4, 3)


@pytest.mark.parametrize("backbone", [name for name in BACKBONES.built_in if backbone_entry(name).small])
def test_small_backbones_learn_at_the_rates_of_quick(backbone):
    assert training_of("quick", "spectralx", backbone, {}) == training_of("quick", "spectralx", "vit_micro", {})


@pytest.mark.parametrize("method", method_names())
def test_the_published_set_up_is_the_same_for_every_method(method):
    assert training_of("reference", method, "dinov2_s", {}) == preset("reference")


def test_wrong_settings_are_refused_before_anything_is_built():
    with pytest.raises(UnknownNameError, match="did you mean 'upsample'"):
        training_of("quick", "frozen", "vit_micro", {"upsampel": "2"})
    with pytest.raises(SpectralBenchError, match="upsample"):
        training_of("quick", "frozen", "vit_micro", {"upsample": "0"})
