"""Panopticon: every band is cut into patches by itself, and attention across bands joins them."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchgeo.models import panopticon_vitb14
from torchgeo.models.panopticon import PanopticonPE, get_1d_sincos_pos_embed_from_grid_torch

from spectral_tl_bench.backbones.base import Tokenizer
from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.loading import as_it_is, torchgeo_weights
from spectral_tl_bench.backbones.vit import VisionTransformerBackbone
from spectral_tl_bench.sensors import Sensor

RELEASED_SIZE = 518
"""Side in pixels of the images that the released table of positions is for: 37 x 37 patches."""


class ChannelAttentionTokenizer(Tokenizer):
    """Panopticon's patch embedding for optical bands (Waldmann et al., CVPR 2025 workshops).

    Each band's patches are projected by the same weights, marked by a sine-cosine code of the band's wavelength in
    whole nm, and a learned query reads all bands of a patch. Its embeddings of radar channels are left out.
    """

    codes: Tensor

    def __init__(self, embedding: PanopticonPE, sensor: Sensor) -> None:
        """Take a torchgeo patch embedding apart."""
        super().__init__()
        fusion = embedding.chnfus
        self.projection = embedding.conv3d
        self.query = fusion.query
        self.attention = fusion.xattn
        self.output = embedding.proj
        self.register_buffer("codes", self._encode(sensor), persistent=False)

    def _encode(self, sensor: Sensor) -> Tensor:
        wavelengths = torch.tensor(sensor.wavelengths, device="cpu").floor()
        codes: Tensor = get_1d_sincos_pos_embed_from_grid_torch(self.query.shape[-1], wavelengths)
        return codes.to(self.query.device)

    def see(self, sensor: Sensor) -> None:
        """Read another sensor's bands from now on."""
        self.codes = self._encode(sensor)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens."""
        patches, _, _ = self.projection(images)
        batch, _, count, _ = patches.shape
        channels = (patches + self.codes.unsqueeze(1)).transpose(1, 2).flatten(0, 1)
        fused = self.attention(self.query.expand(batch * count, -1, -1), channels, channels)
        return self.output(fused.view(batch, count, -1)), {}


class PanopticonBackbone(VisionTransformerBackbone):
    """Panopticon (Waldmann et al., 2025), from torchgeo: a DINOv2 ViT-B/14 after channel attention.

    The released table of positions is kept, and interpolated once to the grid of an image, as torchgeo does it for the
    image size that its model is built for.
    """

    def __init__(self, vit: VisionTransformer, sensor: Sensor) -> None:
        """Take the ViT inside a torchgeo Panopticon apart.

        Args:
            vit: The model, for any number of bands.
            sensor: Sensor of the images; gives the wavelengths.
        """
        # The patch embedding has a grid of its own, whatever image size the table of positions is for.
        side = math.isqrt(vit.get_parameter("pos_embed").shape[1] - 1)
        vit.patch_embed.grid_size = (side, side)
        super().__init__(vit, sensor, ChannelAttentionTokenizer(vit.patch_embed, sensor))


def make_base(bands: int) -> Any:
    """The ViT-B/14 inside Panopticon without weights; it takes any number of ``bands``."""
    return panopticon_vitb14(img_size=RELEASED_SIZE).model


PANOPTICON_B = BackboneEntry(
    "panopticon_b",
    "Panopticon ViT-B/14, attention across bands that are known by their wavelengths",
    make_base,
    PanopticonBackbone,
    torchgeo_weights("Panopticon_Weights", "VIT_BASE14"),
    convert=as_it_is,
    from_wavelengths=True,
    order=70,
)
