"""DOFA: one ViT for every optical sensor, its patch embedding generated from wavelengths."""

from __future__ import annotations

from functools import partial

import torch
import torchgeo.models
from torch import Tensor
from torchgeo.models import DOFA
from torchgeo.models.dofa import position_embedding

from spectral_tl_bench.backbones.entry import DECODER, HEADS, BackboneEntry
from spectral_tl_bench.backbones.generated import GeneratedPatchEmbedding, fill_positions
from spectral_tl_bench.backbones.loading import as_it_is, torchgeo_weights
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
        side = model.img_size // model.patch_size
        super().__init__(
            GeneratedPatchEmbedding(model.patch_embed, partial(band_codes, model.dynamic_embed_dim), sensor),
            model.blocks,
            sensor=sensor,
            patch_size=model.patch_size,
            pos_embed=model.pos_embed,
            pretrained_grid=(side, side),
            cls_token=model.cls_token,
        )


def band_codes(width: int, sensor: Sensor) -> Tensor:
    """The code of each band's wavelength, C x width."""
    # DOFA is called with micrometres, but what it codes is nanometres.
    codes: Tensor = position_embedding(width, torch.tensor(sensor.wavelengths, device="cpu"))
    return codes


def make(name: str, bands: int) -> DOFA:
    """One of torchgeo's DOFA models by the name of its function, without weights; it takes any number of ``bands``."""
    model = getattr(torchgeo.models, name)(num_classes=0)
    fill_positions(model.pos_embed, model.img_size // model.patch_size)
    return model


DOFA_B = BackboneEntry(
    "dofa_b",
    "DOFA ViT-B/16, patch embedding generated from wavelengths",
    partial(make, "dofa_base_patch16_224"),
    DOFABackbone,
    torchgeo_weights("DOFABase16_Weights", "DOFA_MAE"),
    convert=as_it_is,
    ignorable=(*HEADS, *DECODER, "projector."),
    from_wavelengths=True,
    order=60,
)
DOFA_L = BackboneEntry(
    "dofa_l",
    "DOFA ViT-L/16, patch embedding generated from wavelengths",
    partial(make, "dofa_large_patch16_224"),
    DOFABackbone,
    torchgeo_weights("DOFALarge16_Weights", "DOFA_MAE"),
    convert=as_it_is,
    ignorable=(*HEADS, *DECODER, "projector."),
    from_wavelengths=True,
    order=60,
)
