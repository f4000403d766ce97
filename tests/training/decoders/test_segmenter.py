import pytest
import torch
from small_vits import small_vit
from torch import nn

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.decoders.mlp import MLP
from spectral_tl_bench.training.decoders.neck import MultiLevelNeck
from spectral_tl_bench.utils.registry import DECODERS


def small(num_classes, decoder="upernet"):
    training = override(preset("quick"), {"neck_channels": 16, "decoder_channels": 16, "decoder": decoder})
    return Segmenter.of(build_backbone("vit_micro", SENTINEL2), num_classes, training).eval()


@pytest.mark.parametrize("decoder", DECODERS.names())
@pytest.mark.parametrize("size", [(64, 64), (40, 72), (8, 8)])
def test_logits_have_the_size_of_the_image(size, decoder):
    segmenter = small(5, decoder)
    assert segmenter(torch.randn(1, 13, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("upsampling", ["learned", "bilinear"])
def test_the_neck_makes_a_pyramid_of_four_scales(upsampling):
    neck = MultiLevelNeck(12, 6, upsampling)
    pyramid = neck([torch.randn(1, 12, 8, 6) for _ in range(4)])
    assert [tuple(p.shape) for p in pyramid] == [(1, 6, 32, 24), (1, 6, 16, 12), (1, 6, 8, 6), (1, 6, 4, 3)]


def test_every_tap_reaches_the_logits():
    segmenter = small(3)
    images = torch.randn(1, 13, 64, 64)
    plain = segmenter(images)

    for tap in range(4):
        handle = segmenter.decoder.neck.lateral[tap].register_forward_hook(lambda m, i, o: o * 0)
        assert not torch.allclose(segmenter(images), plain)
        handle.remove()


def test_the_published_decoder_has_its_dropout_and_its_small_eps():
    backbone = build_backbone("vit_micro", SENTINEL2)
    training = preset("reference").model_copy(update={"neck_channels": 8, "decoder_channels": 8})
    segmenter = Segmenter.of(backbone, 3, training)
    norms = [m for m in segmenter.decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {m.eps for m in norms} == {1e-6}
    images = torch.randn(2, 13, 64, 64)
    dropped = []
    classifier = segmenter.decoder.classifier
    classifier.register_forward_hook(lambda _, given, out: dropped.append((given[0] == 0).all((2, 3))))
    segmenter.train()
    for _ in range(20):
        segmenter(images)
    assert 0.03 < torch.stack(dropped).float().mean() < 0.2
    dropped.clear()
    segmenter.eval()(images)
    assert not dropped[0].all()


def test_published_size_of_the_decoder():
    """About 76 M parameters in neck and head on a ViT-L, as the published set-up has."""
    with torch.device("meta"):
        backbone = build_backbone("vit_l_mae", SENTINEL2)
        segmenter = Segmenter.of(backbone, 8, preset("reference"))
    heads = sum(p.numel() for p in segmenter.decoder.parameters())
    assert 70e6 < heads < 82e6


@pytest.mark.parametrize("upsample", [1, 2, 3])
@pytest.mark.parametrize("decoder", DECODERS.names())
def test_enlarged_images_give_finer_features_and_logits_of_the_images_own_size(upsample, decoder):
    backbone = small_vit()
    seen = []
    backbone.register_forward_hook(lambda _, given, features: seen.append((given[0].shape[-2:], features[0].shape)))
    segmenter = Segmenter.of(backbone, 5, override(preset("quick"), {"decoder": decoder, "upsample": upsample})).eval()
    assert segmenter(torch.randn(1, 13, 32, 48)).shape == (1, 5, 32, 48)
    size = (32 * upsample, 48 * upsample)
    assert seen == [(size, (1, 32, 4 * upsample, 6 * upsample))]


def test_an_enlarged_side_is_the_nearest_multiple_of_the_patch():
    backbone = small_vit()
    images = torch.randn(1, 13, 22, 30)
    assert backbone.enlarge(images, 1) is images
    assert backbone.enlarge(images, 2).shape == (1, 13, 48, 64)  # 44 and 60 px with a patch of 8
    assert backbone.enlarge(torch.randn(1, 13, 1, 1), 2).shape == (1, 13, 8, 8)


def test_taps_of_any_size_reach_the_perceptron_alike():
    torch.manual_seed(0)
    decoder = MLP(small_vit(), 5, preset("quick")).train()
    features = [torch.randn(4, 32, 6, 6) * scale for scale in (0.05, 0.1, 1.0, 30.0)]
    logits = decoder(features)
    assert logits.shape == (4, 5, 24, 24)
    for tap in range(4):
        larger = [f * 20 + 3 if index == tap else f for index, f in enumerate(features)]
        torch.testing.assert_close(decoder(larger), logits, atol=0.05, rtol=0.05)
        without = [torch.zeros_like(f) if index == tap else f for index, f in enumerate(features)]
        assert not torch.allclose(decoder(without), logits, atol=0.05)


def test_the_perceptron_sees_no_context_beyond_the_neighbouring_tokens():
    torch.manual_seed(0)
    decoder = MLP(small_vit(), 5, preset("quick")).eval()
    features = [torch.randn(1, 32, 8, 8) for _ in range(4)]
    changed = [f.clone() for f in features]
    for f in changed:
        f[..., 4:, :] += 1
    near = decoder(features)[..., :12, :], decoder(changed)[..., :12, :]
    assert torch.equal(*near)
