"""Copernicus-FM: kernels generated from wavelengths and bandwidths, positions that know the size of a patch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torchgeo.models import CopernicusFM, copernicusfm_base
from torchgeo.models.copernicusfm import DynamicPatchEmbed

from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.generated import GeneratedPatchEmbedding, fill_positions
from spectral_tl_bench.backbones.loading import as_it_is, torchgeo_weights
from spectral_tl_bench.backbones.vit import AbsolutePositionBackbone
from spectral_tl_bench.sensors import DEFAULT_BANDWIDTH, Sensor


class CopernicusFMBackbone(AbsolutePositionBackbone):
    """Copernicus-FM (Wang et al., ICCV 2025), from torchgeo, in its mode for spectral bands.

    Every position carries three codes of the whole image besides its own: where it lies, when it was taken and how
    large a patch is on the ground. A sample says neither where nor when, so these two are the model's learned tokens
    for the unknown; the area of a patch follows from the sensor and how much images were enlarged. A bandwidth or area
    below the range that the model was made for counts as the least one in it.
    """

    def __init__(self, model: CopernicusFM, sensor: Sensor) -> None:
        """Take a torchgeo Copernicus-FM apart.

        Args:
            model: The model, for any number of bands.
            sensor: Sensor of the images; gives wavelengths, bandwidths and ground sampling distance.
        """
        embedding = model.patch_embed_spectral
        patch_size = embedding.kernel_size
        side = int(model.num_patches**0.5)
        super().__init__(
            GeneratedPatchEmbedding(embedding, partial(band_codes, embedding), sensor),
            model.blocks,
            sensor=sensor,
            patch_size=patch_size,
            pos_embed=model.pos_embed,
            pretrained_grid=(side, side),
            cls_token=model.cls_token,
        )
        self.coord_token, self.coord_fc = model.coord_token, model.coord_fc
        self.time_token, self.time_fc = model.time_token, model.time_fc
        self.scale_fc = model.scale_fc
        self._area_code = model.scale_expansion

    def area(self) -> Tensor:
        """Code of the area that a patch covers, 1 x D."""
        side = self.patch_size * self.sensor.ground_sampling_distance / self.enlargement
        square_kilometres = max((side / 1000) ** 2, self._area_code.lower)
        # In full precision, on the CPU: the sine of a large ratio means nothing in half precision.
        code: Tensor = self._area_code(torch.tensor([square_kilometres], device="cpu"), self.width)
        return code.to(self.pos_embed.device)

    def position_code(self, grid: tuple[int, int]) -> Tensor:
        """The interpolated table plus the codes of place, time and area, 1 x (1 + T) x D."""
        scene: Tensor = (
            self.coord_fc(self.coord_token) + self.scale_fc(self.area()).unsqueeze(1) + self.time_fc(self.time_token)
        )
        return super().position_code(grid) + scene


def band_codes(embedding: DynamicPatchEmbed, sensor: Sensor) -> Tensor:
    """The code of each band's wavelength plus that of its bandwidth, C x d."""
    bandwidths = [band.bandwidth or DEFAULT_BANDWIDTH for band in sensor.bands]
    narrowest = embedding.spectrum_bandwidth_expansion.lower
    centre = embedding.spectrum_central_expansion(torch.tensor(sensor.wavelengths, device="cpu"), embedding.hyper_dim)
    widths = torch.tensor([max(width, narrowest) for width in bandwidths], device="cpu")
    codes: Tensor = centre + embedding.spectrum_bandwidth_expansion(widths, embedding.hyper_dim)
    return codes


def make_base(bands: int) -> CopernicusFM:
    """Copernicus-FM ViT-B/16 without weights; it takes any number of ``bands``."""
    model = copernicusfm_base()
    fill_positions(model.pos_embed, int(model.num_patches**0.5))
    return model


COPERNICUSFM_B = BackboneEntry(
    "copernicusfm_b",
    "Copernicus-FM ViT-B/16, patch embedding generated from wavelengths and bandwidths",
    make_base,
    CopernicusFMBackbone,
    torchgeo_weights("CopernicusFM_Base_Weights", "CopernicusFM_ViT"),
    convert=as_it_is,
    from_wavelengths=True,
    order=80,
)
