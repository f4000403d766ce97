"""Scale-MAE: a ViT whose positions are counted in metres on the ground."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchgeo.models import ScaleMAE, scalemae_large_patch16

from spectral_tl_bench.backbones.base import Backbone, PatchEmbedding, Tokens
from spectral_tl_bench.backbones.entry import DECODER, HEADS, BackboneEntry
from spectral_tl_bench.backbones.loading import torchgeo_weights
from spectral_tl_bench.backbones.positions import ground_code
from spectral_tl_bench.sensors import Sensor


class ScaleMAEBackbone(Backbone):
    """Scale-MAE (Reed et al., ICCV 2023, section 3), from torchgeo.

    A patch's row and column are multiplied by the sensor's ground sampling distance in metres, relative to 1 m, before
    their sines and cosines are taken: what torchgeo calls ``res``. Where images were enlarged, the distance between
    their pixels is smaller by that factor. The class token has no position. There is no table of positions, so every
    grid has its own code and none is interpolated.

    Attributes:
        metres_a_pixel: The sensor's; 1 makes the code that of a plain ViT.
        pretrained_grid: Rows and columns of patches of the images it was pretrained with.
    """

    def __init__(self, vit: ScaleMAE, sensor: Sensor) -> None:
        """Take a torchgeo Scale-MAE apart.

        Args:
            vit: The model; its patch projection already fits the sensor's bands.
            sensor: Sensor of the images; gives the ground sampling distance.
        """
        super().__init__(
            PatchEmbedding(vit.patch_embed.proj),
            vit.blocks,
            sensor=sensor,
            width=vit.embed_dim,
            patch_size=vit.patch_embed.patch_size[0],
        )
        self.metres_a_pixel: float = sensor.ground_sampling_distance
        self.cls_token = cast(nn.Parameter, vit.cls_token)
        self.pretrained_grid = tuple(vit.patch_embed.grid_size)

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Add the position code of the grid at the sensor's ground sampling distance."""
        # In the type of the parameters, which under mixed precision is finer than that of the patches.
        metres = self.metres_a_pixel / self.enlargement
        code = ground_code(*grid, self.width, metres, patches.device, self.cls_token.dtype)
        return Tokens(patches + code, self.cls_token.expand(len(patches), -1, -1), grid, context=context)


def make_large(bands: int) -> ScaleMAE:
    """Scale-MAE ViT-L/16 without weights, for C ``bands``."""
    return scalemae_large_patch16(in_chans=bands, num_classes=0)


SCALEMAE_L = BackboneEntry(
    "scalemae_l",
    "Scale-MAE ViT-L/16 on fMoW RGB, positions in metres on the ground",
    make_large,
    ScaleMAEBackbone,
    torchgeo_weights("ScaleMAELarge16_Weights", "FMOW_RGB"),
    # The table of positions in its state is never used: positions depend on the ground sampling distance.
    ignorable=(*HEADS, *DECODER, "pos_embed", "fpn.", "fcn.", "fcn_high.", "fcn_low.", "pos_emb_projection."),
    order=20,
)
