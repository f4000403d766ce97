"""What a run shows of its model on a few tiles."""

import numpy as np
import pandas as pd
import pytest
import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datamodules.splits import split_tiles
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.presets import override, preset
from spectral_tl_bench.protocols import load_protocols
from spectral_tl_bench.report.tables import HELD_OUT
from spectral_tl_bench.runs.pictures import (
    images_by_domain,
    looking_at,
    reconstruction_figure,
    reconstructions,
    spread,
    window,
)
from spectral_tl_bench.tasks.reconstruction import MaskedReconstruction, normalised_patches

CPU = torch.device("cpu")


class Perfect(MaskedReconstruction):
    """Knows every patch."""

    def reconstruct(self, images, hidden):
        return normalised_patches(images, self.backbone.patch_size)


@pytest.fixture
def data(whuohs_root):
    protocol = load_protocols("whu_region/s2t")[0]
    dataset = open_dataset(protocol.file, whuohs_root)
    split = split_tiles(protocol, dataset.index, 0.1)

    def make(**changes):
        training = override(preset("quick"), {"image_size": 16} | changes)
        return ProtocolDataModule(split, dataset, training, seed=0)

    return make


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
    for example in reconstructions(task(module, Perfect), module, CPU):
        np.testing.assert_allclose(example.restored, example.image, atol=1e-4)
        assert example.error < 1e-6


def test_only_hidden_pixels_change_and_their_share_is_the_spec_s(data):
    module = data()
    examples = reconstructions(task(module), module, CPU)
    assert len(examples) == 4
    for example in examples:
        assert example.hidden.mean() == 0.75
        visible = ~example.hidden
        assert np.array_equal(example.restored[:, visible], example.image[:, visible])
        assert np.abs(example.restored - example.image)[:, example.hidden].max() > 1e-3


def test_pictures_are_of_held_out_source_tiles_only(data):
    module = data()
    names = set(module.tiles.index["tile"].iloc[module.split.held_out])
    shown = [example.tile for example in reconstructions(task(module), module, CPU)]
    assert set(shown) <= names
    assert len({module.split.subdomains[name] for name in shown}) == 4


def test_drawing_repeats_itself_and_leaves_training_as_it_was(data):
    module = data()
    shown = task(module)
    shown.decoder.eval()
    modes = [part.training for part in shown.modules()]
    tensors = {name: tensor.clone() for name, tensor in shown.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = (reconstructions(shown, module, CPU) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert [part.training for part in shown.modules()] == modes
    assert all(torch.equal(shown.state_dict()[name], tensor) for name, tensor in tensors.items())
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.restored, other.restored)


def test_looking_at_a_module_needs_no_gradients_and_ends_when_something_fails():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2).eval())
    seen = []

    def fail():
        with looking_at(module, CPU):
            seen.append((module.training, module[0](torch.ones(1, 2)).requires_grad))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(False, False)]
    assert [part.training for part in module.modules()] == [True, True, False]


def test_the_caption_says_where_the_tokenizer_sees_hidden_pixels(data):
    module = data()
    for variant, expected in (("default", False), ("reference", True)):
        figure = reconstruction_figure(task(module, variant=variant), module, CPU, "SIMULATED: x")
        texts = " ".join(text.get_text() for part in figure.subfigs for text in part.texts).replace("\n", " ")
        assert "their own mean and deviation" in texts
        assert ("sees the whole image" in texts) == expected
        assert figure.subfigs[0].get_suptitle().startswith("SIMULATED: x")


def test_tiles_are_spread_over_sub_domains_and_within_them():
    names = ["x"] * 10 + ["y"] * 3 + ["z"]
    positions = np.arange(14) + 100
    assert sorted(spread(positions, names, 3)) == [100, 110, 113]
    assert sorted(spread(positions, names, 6)) == [100, 109, 110, 112, 113]
    assert len(spread(positions, names, 2)) == 2
    assert spread(positions, ["x"] * 14, 50) == list(range(100, 114))


@pytest.mark.parametrize("size", [16, 32, 48])
def test_windows_have_the_model_s_size_whatever_the_tile_s(data, size):
    module = data(image_size=size)
    image = window(module, 0, module.training_spec)
    assert tuple(image.shape) == (32, size, size)
    whole = module.tiles.read(0)["image"]
    if size == 16:
        assert torch.equal(image, whole[:, 8:24, 8:24])
    else:
        assert torch.equal(image[:, :32, :32], whole)


def test_every_target_sub_domain_is_among_the_images(data):
    module = data()
    images = images_by_domain(module, module.training_spec, CPU)
    targets = {module.split.subdomains[name] for name in module.tiles.index["tile"].iloc[module.split.target]}
    assert set(images) == {HELD_OUT, *targets}
    counts = pd.Series({name: len(batch) for name, batch in images.items()})
    assert counts[HELD_OUT] <= 16
    assert counts.drop(HELD_OUT).sum() == 16
    # Normalised as in training: about 0 on average over the source.
    assert abs(float(images[HELD_OUT].mean())) < 1
