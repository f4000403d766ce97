from collections.abc import Callable

import pytest
from timm.models.vision_transformer import VisionTransformer

from spectral_tl_bench.backbones.base import Backbone
from spectral_tl_bench.backbones.vit import VisionTransformerBackbone
from spectral_tl_bench.sensors import Band, Sensor


@pytest.fixture
def make_sensor() -> Callable[..., Sensor]:
    def make(bands: int = 5) -> Sensor:
        return Sensor(
            name="test",
            bands=tuple(Band(name=f"B{i}", wavelength=450 + 25 * i) for i in range(bands)),
            rgb=("B2", "B1", "B0"),
        )

    return make


@pytest.fixture
def make_backbone(make_sensor) -> Callable[..., Backbone]:
    def make(bands: int = 5, patch_size: int = 8, image_size: tuple[int, int] = (32, 32), width: int = 32) -> Backbone:
        vit = VisionTransformer(
            img_size=image_size,
            patch_size=patch_size,
            in_chans=bands,
            num_classes=0,
            embed_dim=width,
            depth=4,
            num_heads=2,
        )
        return VisionTransformerBackbone(vit, make_sensor(bands))

    return make
