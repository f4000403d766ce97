from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from spectral_tl_bench.backbones.base import Backbone, Tokens
from spectral_tl_bench.backbones.vit import VisionTransformerBackbone
from spectral_tl_bench.methods.spectralx.hyper_tokenizer import map_size
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


@pytest.fixture
def make_tokens() -> Callable[..., Tokens]:
    def make(
        grid: tuple[int, int], patch_size: int, reference: tuple[int, int], batch: int = 2, width: int = 32
    ) -> Tokens:
        """Random tokens of a grid, with the maps that the tokenizer of a reference grid would hand on."""
        height, columns = map_size(patch_size, grid)
        rows, reference_columns = map_size(patch_size, reference)
        context = {
            "spatial": torch.randn(batch, height, columns, width // 2),
            "spectral": torch.randn(batch, width // 2, rows * reference_columns),
        }
        patches = torch.randn(batch, grid[0] * grid[1], width)
        return Tokens(patches, patches.new_zeros(batch, 1, width), grid, context=context)

    return make
