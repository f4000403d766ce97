"""Low-rank patch embeddings that a hypernetwork generates for every band of every image (SpecAware)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones.band_attributes import (
    CODE,
    DROPOUT,
    BandAttributes,
    CrossModalFusion,
    name_rows,
    wavelength_code,
    width_code,
)
from spectral_tl_bench.backbones.base import Tokenizer
from spectral_tl_bench.sensors import Sensor

RANK = 64
"""The paper's, for a ViT-B: a twelfth of its width."""
POOLED = 28
"""Side in pixels to which a band is pooled before the content MLPs."""
INITIAL_SCALE = 0.02
"""The paper's s at the start, for kernels of rank 64 and images of hundreds of bands."""


class BandContent(nn.Module):
    """Content of each band of an image: average- and max-pooled to 28 x 28, an MLP each, then a joint MLP."""

    def __init__(self) -> None:
        super().__init__()

        def pooled_mlp() -> nn.Sequential:
            return nn.Sequential(nn.Linear(POOLED**2, 196), nn.GELU(), nn.Linear(196, CODE))

        self.average, self.maximum = pooled_mlp(), pooled_mlp()
        self.joint = nn.Sequential(
            nn.Linear(2 * CODE, 2 * CODE),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(2 * CODE, CODE),
            nn.LayerNorm(CODE),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Code the content of B x C x H x W images; B x C x 128."""
        average = self.average(F.adaptive_avg_pool2d(images, POOLED).flatten(2))
        maximum = self.maximum(F.adaptive_max_pool2d(images, POOLED).flatten(2))
        out: Tensor = self.joint(torch.cat([average, maximum], dim=-1))
        return out


def generator(out: int) -> nn.Sequential:
    """The network from a band's code to the entries of a matrix: LN-128-128-GELU-dropout-64-GELU-out."""
    return nn.Sequential(
        nn.LayerNorm(CODE),
        nn.Linear(CODE, CODE),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Linear(CODE, 64),
        nn.GELU(),
        nn.Linear(64, out),
    )


class HyperEmbedding(nn.Module):
    """A patch embedding of low rank r for every band of every image, generated from the band's attributes and content.

    Token n is s (sum over bands c of U_c V_c x_nc, plus a bias), U_c being D x r and V_c r x k^2. Each is generated
    from the fused code of the band, the bias from the mean of the bands' codes; it is 0 at the start.

    Declared difference from the released code: linear layers other than those of the attributes start at torch's
    default, not at a deviation of 0.02, with which tokens would start near 0.
    """

    def __init__(self, width: int, patch_size: int, rank: int = RANK, scale: float = INITIAL_SCALE) -> None:
        """Make the embedding for tokens of ``width`` D and patches of ``patch_size`` k; ``scale`` is s at the start."""
        super().__init__()
        self.width, self.patch_size, self.rank = width, patch_size, rank
        self.attributes = BandAttributes()
        self.content = BandContent()
        self.fuse = CrossModalFusion()
        self.left = generator(width * rank)
        self.right = generator(rank * patch_size**2)
        last = nn.Linear(64, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.bias = nn.Sequential(nn.LayerNorm(CODE), nn.Linear(CODE, 64), nn.GELU(), last)
        self.scale = nn.Parameter(torch.tensor(scale))

    def generate(self, images: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make the embedding of some images.

        Args:
            images: B x C x H x W.
            attributes: C x 128, what :class:`BandAttributes` gives.

        Returns:
            U, B x C x D x r; V, B x C x r x k x k; and the bias, B x D.
        """
        codes = self.fuse(attributes, self.content(images)) + attributes
        left = self.left(codes).unflatten(-1, (self.width, self.rank))
        right = self.right(codes).unflatten(-1, (self.rank, self.patch_size, self.patch_size))
        return left, right, self.bias(codes.mean(dim=1))


class HyperEmbeddingTokenizer(Tokenizer):
    """A :class:`HyperEmbedding` for a sensor's bands, at its own patch size or another.

    At another patch size V is resized bilinearly and divided by the ratio of areas, so that a flat patch of any size
    gives the same token.
    """

    wavelengths: Tensor
    widths: Tensor
    names: Tensor

    def __init__(self, embedding: HyperEmbedding, sensor: Sensor, patch_size: int) -> None:
        """Keep the embedding beside what it has to know of the sensor; patches have ``patch_size`` pixels a side."""
        super().__init__()
        self.embedding = embedding
        self.patch_size = patch_size
        for name in ("wavelengths", "widths", "names"):
            self.register_buffer(name, torch.empty(0, device=embedding.scale.device), persistent=False)
        self.see(sensor)

    def see(self, sensor: Sensor) -> None:
        """Make tokens of another sensor's bands from now on."""
        device = self.wavelengths.device
        # In full precision: the sine of a wavelength of hundreds of nm means nothing in half precision.
        self.wavelengths = wavelength_code(sensor).to(device)
        self.widths = width_code(sensor).to(device)
        self.names = name_rows(sensor).to(device)

    def attributes(self) -> Tensor:
        """What is known of the bands before an image is seen, C x 128."""
        out: Tensor = self.embedding.attributes(self.wavelengths, self.widths, self.names)
        return out

    def factors(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U, B x C x D x r, V at this patch size, B x C x r x p x p, and bias, B x D, of some images' embedding."""
        left, right, bias = self.embedding.generate(images, self.attributes())
        own, side = self.embedding.patch_size, self.patch_size
        if side != own:
            resized = F.interpolate(right.flatten(0, 1), size=(side, side), mode="bilinear", align_corners=False)
            right = resized.unflatten(0, right.shape[:2]) * (own / side) ** 2
        return left, right, bias

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens."""
        left, right, bias = self.factors(images)
        side = self.patch_size
        rows, columns = images.shape[-2] // side, images.shape[-1] // side
        patches = images.unflatten(3, (columns, side)).unflatten(2, (rows, side)).transpose(3, 4)
        # First to rank r, then to D: no kernel of D x k^2 is ever made.
        inside = patches.flatten(4).flatten(2, 3) @ right.flatten(3).transpose(2, 3)
        tokens = inside.transpose(1, 2).flatten(2) @ left.transpose(2, 3).flatten(1, 2)
        return self.embedding.scale * (tokens + bias.unsqueeze(1)), {}
