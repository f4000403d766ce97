"""Patch embeddings whose kernels are generated from the bands' wavelengths, for any number of bands."""

from __future__ import annotations

from collections.abc import Callable

from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F
from torchgeo.models.copernicusfm import DynamicPatchEmbed
from torchgeo.models.dofa import DOFAEmbedding

from spectral_tl_bench.backbones.base import Tokenizer
from spectral_tl_bench.sensors import Sensor


class GeneratedPatchEmbedding(Tokenizer):
    """One kernel a band, made from a code of the band by a small transformer (DOFA; Xiong et al., 2024).

    The same weights serve every sensor; the sensor is in the codes alone. They are computed once, in full precision:
    the sine of a wavelength of hundreds of nm means nothing in half precision.
    """

    codes: Tensor

    def __init__(
        self,
        embedding: DOFAEmbedding | DynamicPatchEmbed,
        encode: Callable[[Sensor], Tensor],
        sensor: Sensor,
    ) -> None:
        """Take an embedding apart.

        Args:
            embedding: Of DOFA or of Copernicus-FM's spectral bands.
            encode: Gives the code of each band's wavelength (and bandwidth), C x d, d being the generator's width.
            sensor: Sensor of the images.
        """
        super().__init__()
        self.fclayer = embedding.fclayer
        self.weight_generator = embedding.weight_generator
        self.kernel_size: int = embedding.kernel_size
        self.scaler: float = embedding.scaler
        device = self.weight_generator.weight_tokens.device
        self.encode = encode
        self.register_buffer("codes", encode(sensor).to(device), persistent=False)

    def see(self, sensor: Sensor) -> None:
        """Make kernels for another sensor's bands from now on."""
        self.codes = self.encode(sensor).to(self.codes.device)

    def kernels(self) -> tuple[Tensor, Tensor]:
        """The convolution's weight, D x C x p x p, and bias, D."""
        weight, bias = self.weight_generator(self.fclayer(self.codes))
        weight = weight.unflatten(1, (self.kernel_size, self.kernel_size, -1)).permute(3, 0, 1, 2)
        return weight * self.scaler, bias.flatten() * self.scaler

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens."""
        weight, bias = self.kernels()
        # The pretrained models were trained with this padding; it does not change the grid.
        maps = F.conv2d(images, weight, bias, stride=self.kernel_size, padding=1)
        return maps.flatten(2).transpose(1, 2), {}


def fill_positions(pos_embed: nn.Parameter, side: int) -> None:
    """Write the fixed sine-cosine table into a model that gets it from its checkpoint alone.

    Args:
        pos_embed: 1 x (1 + side * side) x D; the class token's entry stays 0.
        side: Rows and columns of the table.
    """
    code = build_sincos2d_pos_embed([side, side], dim=pos_embed.shape[-1], device=pos_embed.device)
    pos_embed.data[:, 1:] = code
