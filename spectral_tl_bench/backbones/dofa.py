"""DOFA: one ViT for every optical sensor, its patch embedding generated from wavelengths."""

from __future__ import annotations

import torch
import torchgeo.models
from torchgeo.models import DOFA
from torchgeo.models.dofa import position_embedding

from spectral_tl_bench.backbones.generated import GeneratedPatchEmbedding, fill_positions
from spectral_tl_bench.backbones.vit import AbsolutePositionBackbone
from spectral_tl_bench.sensors import Sensor


class DOFABackbone(AbsolutePositionBackbone):
    """DOFA (Xiong et al., 2024), from torchgeo."""

    def __init__(self, model: DOFA, sensor: Sensor) -> None:
        """Take a torchgeo DOFA apart.

        Args:
            model: The model, for any number of bands.
            sensor: Sensor of the images; gives the wavelengths.
        """
        # DOFA is called with micrometres, but what it codes is nanometres.
        codes = position_embedding(model.dynamic_embed_dim, torch.tensor(sensor.wavelengths, device="cpu"))
        side = model.img_size // model.patch_size
        super().__init__(
            GeneratedPatchEmbedding(model.patch_embed, codes),
            model.blocks,
            sensor=sensor,
            patch_size=model.patch_size,
            pos_embed=model.pos_embed,
            pretrained_grid=(side, side),
            cls_token=model.cls_token,
        )


def make(name: str, bands: int) -> DOFA:
    """One of torchgeo's DOFA models by the name of its function, without weights; it takes any number of ``bands``."""
    model = getattr(torchgeo.models, name)(num_classes=0)
    fill_positions(model.pos_embed, model.img_size // model.patch_size)
    return model
