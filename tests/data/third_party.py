"""What a third party writes, each in one file of its own outside the package."""

import numpy as np
import rasterio

METHOD = '''
from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method


@dataclass
class BiasTuning(Method):
    """Only biases train."""

    def adapt(self, backbone: Backbone) -> None:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad = name.endswith("bias")
'''

BACKBONE = """
import dataclasses

from timm.models.vision_transformer import VisionTransformer

from spectral_tl_bench.backbones import BackboneEntry
from spectral_tl_bench.backbones.vit import VisionTransformerBackbone


def make(bands):
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3}
    return VisionTransformer(in_chans=bands, num_classes=0, **size)


TINY = BackboneEntry("tiny", "ViT, 48 wide, 4 deep", make, VisionTransformerBackbone)
"""

DECODER = '''
import torch
from torch import nn


class LastMap(nn.Module):
    """One linear layer on the last map."""

    def __init__(self, backbone, num_classes, training):
        super().__init__()
        self.classifier = nn.Conv2d(backbone.width, num_classes, 1)

    def forward(self, features):
        return self.classifier(features[-1])
'''

LOSS = '''
from torch.nn import functional as F


def focal(logits, mask):
    """Cross-entropy that cares less for what is easy."""
    losses = F.cross_entropy(logits, mask, ignore_index=255, reduction="none")
    return ((1 - (-losses).exp()) ** 2 * losses).mean()
'''

SAMPLER = '''
import numpy as np


def first_domain(tiles):
    """Tiles of the first sub-domain, ten times as often."""
    first = sorted(tiles.subdomains.unique())[0]
    return np.where(tiles.subdomains == first, 10.0, 1.0)
'''

DATASET = '''
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.io.listing import Listing
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.sensors import Band, Sensor


class Harbours(TileDataset):
    """Small scenes of two harbours, files named ``{harbour}_{number}.tif`` and ``{harbour}_{number}_label.tif``."""

    name = "harbours"
    title = "Harbours"
    citation = ""
    splits = ("all",)
    sensor = Sensor(
        name="camera",
        bands=tuple(Band(name=n, wavelength=w) for n, w in (("blue", 480), ("green", 560), ("red", 660), ("nir", 840))),
        rgb=("red", "green", "blue"),
    )
    all_classes = (
        LandClass(code=1, name="water", color="#0000ff"),
        LandClass(code=2, name="quay", color="#888888"),
    )

    def find(self):
        images = sorted(p for p in self.root.glob("*.tif") if not p.stem.endswith("_label"))
        rows = [
            {
                "tile": image.stem,
                "image": str(image),
                "label": str(image.with_name(f"{image.stem}_label.tif")),
                "split": "all",
                "harbour": image.stem.partition("_")[0],
                "block": image.stem,
            }
            for image in images
        ]
        return Listing(rows)
'''

PROTOCOL = """
title: From one harbour to another
dataset: harbours.py:Harbours
source: {harbour: rotterdam}
target: {harbour: genoa}
by: harbour
"""


def write_tiles(tiles):
    """Write the tiles that ``DATASET`` reads: six of each of two harbours, images with labels."""
    tiles.mkdir()
    generator = np.random.default_rng(0)
    for harbour in ("rotterdam", "genoa"):
        for number in range(6):
            labels = generator.integers(1, 3, (32, 32), dtype=np.uint8)
            image = (labels[None].astype(int) * 1000 + generator.integers(0, 500, (4, 32, 32))).astype(np.uint16)
            for path, array in ((f"{harbour}_{number}.tif", image), (f"{harbour}_{number}_label.tif", labels[None])):
                profile = {"driver": "GTiff", "height": 32, "width": 32, "count": len(array), "dtype": array.dtype}
                with rasterio.open(tiles / path, "w", **profile) as file:
                    file.write(array)
