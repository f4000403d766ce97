"""From visible tokens to hidden pixels of several sensors: the decoders of pretraining, thrown away afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers.norm import LayerNorm
from torch import Tensor, nn

from spectral_tl_bench.backbones.band_attributes import CODE, CrossModalFusion
from spectral_tl_bench.backbones.hyper_embedding import RANK, generator
from spectral_tl_bench.backbones.positions import ground_code
from spectral_tl_bench.training.decoders.reconstruction import MaskedDecoder

ATTENTION_WIDTH = 64
"""Width of query and key in SpecAware's head."""


class SensorHeads(MaskedDecoder):
    """A linear layer to pixels for each archive, behind what all have in common."""

    def __init__(
        self, encoder_width: int, patch_size: int, bands: Sequence[int], *, width: int, depth: int, num_heads: int
    ) -> None:
        """Build the decoder; ``bands`` are those of each archive."""
        super().__init__(encoder_width, width=width, depth=depth, num_heads=num_heads)
        self.pixels = nn.ModuleList(nn.Linear(width, patch_size**2 * many) for many in bands)

    def forward(self, encoded: Tensor, visible: Tensor, grid: tuple[int, int], archive: int) -> Tensor:
        """Restore the patches of an archive from B x K x D tokens of ``visible`` ones; B x T x (C * patch * patch)."""
        pixels: Tensor = self.pixels[archive](self.fill(encoded, visible, self.positions(grid, encoded)))
        return pixels


class BandDecoder(MaskedDecoder):
    """Restores every band of a patch from one token, by the codes that the encoder has of the bands.

    A band weighs the token's entries before a layer that all bands share makes pixels of them, so that a token holds a
    spectrum as shares of curves over the wavelength.
    """

    def __init__(self, encoder_width: int, patch_size: int, *, width: int, depth: int, num_heads: int) -> None:
        """Build the decoder."""
        super().__init__(encoder_width, width=width, depth=depth, num_heads=num_heads)
        self.weigh = nn.Linear(encoder_width, width)
        self.shift = nn.Linear(encoder_width, width)
        self.pixels = nn.Linear(width, patch_size**2)

    def forward(self, encoded: Tensor, visible: Tensor, grid: tuple[int, int], bands: Tensor) -> Tensor:
        """Restore patches band by band.

        Args:
            encoded: B x K x D tokens of the visible patches.
            visible: B x K places of these patches.
            grid: Rows and columns of patches.
            bands: Codes of all G bands, G x D.

        Returns:
            B x T x G x (patch * patch).
        """
        filled = self.fill(encoded, visible, self.positions(grid, encoded)).unsqueeze(2)
        pixels: Tensor = self.pixels(filled * self.weigh(bands) + self.shift(bands))
        return pixels


class HyperLinear(nn.Module):
    """SpecAware's head: for every band of every image a matrix of rank 64 from tokens to the pixels of a patch.

    The image's content is read from its tokens by attention whose query is their mean. Fused with the attributes of
    band c it generates U_c, k^2 x 64, V_c, 64 x width, and b_c, k^2, which is 0 at the start. A patch is U_c V_c x plus
    b_c.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        """Make the head for tokens of ``width`` and patches of ``patch_size`` k."""
        super().__init__()
        self.query = nn.Linear(width, ATTENTION_WIDTH, bias=False)
        self.key = nn.Linear(width, ATTENTION_WIDTH, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.content = nn.Sequential(nn.Linear(width, CODE), nn.GELU(), nn.Linear(CODE, CODE))
        self.fuse = CrossModalFusion()
        self.left = generator(patch_size**2 * RANK)
        self.right = generator(RANK * width)
        last = nn.Linear(64, patch_size**2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.bias = nn.Sequential(nn.LayerNorm(CODE), nn.Linear(CODE, 64), nn.GELU(), last)

    def forward(self, tokens: Tensor, attributes: Tensor) -> Tensor:
        """Turn B x N x width tokens and C x 128 attributes of bands into B x N x C x (k * k) pixels."""
        query = self.query(tokens.mean(dim=1, keepdim=True))
        attention = (query @ self.key(tokens).transpose(1, 2) / ATTENTION_WIDTH**0.5).softmax(dim=-1)
        content = self.content(attention @ self.value(tokens))
        codes = self.fuse(attributes, content) + content
        left = self.left(codes).unflatten(-1, (-1, RANK))
        right = self.right(codes).unflatten(-1, (RANK, -1))
        inside = tokens.unsqueeze(1) @ right.transpose(2, 3)
        pixels = inside @ left.transpose(2, 3) + self.bias(codes).unsqueeze(2)
        return pixels.transpose(1, 2)


class HyperDecoder(MaskedDecoder):
    """SpecAware's decoder: a small ViT with a :class:`HyperLinear` head; positions are counted on the ground."""

    def __init__(self, encoder_width: int, patch_size: int, *, width: int, depth: int, num_heads: int) -> None:
        """Build the decoder."""
        super().__init__(encoder_width, width=width, depth=depth, num_heads=num_heads)
        self.norm = LayerNorm(width)
        self.pixels = HyperLinear(width, patch_size)

    def forward(
        self,
        encoded: Tensor,
        prefix: Tensor,
        visible: Tensor,
        grid: tuple[int, int],
        attributes: Tensor,
        metres_a_pixel: float,
    ) -> Tensor:
        """Restore patches.

        Args:
            encoded: B x K x D tokens of the visible patches.
            prefix: B x P x D class token.
            visible: B x K places of the visible patches.
            grid: Rows and columns of patches.
            attributes: Of all C bands, C x 128.
            metres_a_pixel: What positions are multiplied by.

        Returns:
            B x T x (C * patch * patch).
        """
        code = ground_code(*grid, self.width, metres_a_pixel, encoded.device, self.mask_token.dtype)
        filled = self.fill(encoded, visible, code, prefix)
        pixels: Tensor = self.pixels(filled, attributes)[:, prefix.shape[1] :]
        return pixels.flatten(2)
