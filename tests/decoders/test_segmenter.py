import pytest
import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.decoders import Segmenter
from spectral_tl_bench.decoders.neck import MultiLevelNeck
from spectral_tl_bench.sensors import SENTINEL2


@pytest.mark.parametrize("size", [(64, 64), (40, 72), (8, 8)])
def test_logits_have_the_size_of_the_image(size):
    segmenter = Segmenter(
        build_backbone("vit_micro", SENTINEL2), num_classes=5, neck_channels=16, decoder_channels=16
    ).eval()
    assert segmenter(torch.randn(1, 13, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("upsampling", ["learned", "bilinear"])
def test_the_neck_makes_a_pyramid_of_four_scales(upsampling):
    neck = MultiLevelNeck(12, 6, upsampling)
    pyramid = neck([torch.randn(1, 12, 8, 6) for _ in range(4)])
    assert [tuple(p.shape) for p in pyramid] == [(1, 6, 32, 24), (1, 6, 16, 12), (1, 6, 8, 6), (1, 6, 4, 3)]


def test_every_tap_reaches_the_logits():
    segmenter = Segmenter(
        build_backbone("vit_micro", SENTINEL2), num_classes=3, neck_channels=16, decoder_channels=16
    ).eval()
    images = torch.randn(1, 13, 64, 64)
    plain = segmenter(images)

    for tap in range(4):
        handle = segmenter.neck.lateral[tap].register_forward_hook(lambda m, i, o: o * 0)
        assert not torch.allclose(segmenter(images), plain)
        handle.remove()


def test_published_size_of_the_decoder():
    """About 76 M parameters in neck and head on a ViT-L, as the published set-up has."""
    with torch.device("meta"):
        backbone = build_backbone("vit_l_mae", SENTINEL2)
        segmenter = Segmenter(backbone, 8, neck_channels=1024, decoder_channels=512, upsampling="bilinear")
    heads = sum(p.numel() for m in segmenter.head_modules() for p in m.parameters())
    assert 70e6 < heads < 82e6
