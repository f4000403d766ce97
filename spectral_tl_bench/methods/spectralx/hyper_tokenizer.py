"""Hyper Tokenizer: spectral images to tokens that carry a spatial and a spectral half."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones.base import Tokenizer
from spectral_tl_bench.backbones.positions import ground_code
from spectral_tl_bench.methods.spectralx.attention import CrossAttention, TransformerBlock, WindowBlock, resample
from spectral_tl_bench.methods.spectralx.positions import wavelength_code
from spectral_tl_bench.sensors import Sensor

STEM_STRIDE = 8
PIXEL_RANK = 16
LEAST_CONTRASTS = 0.3
"""Norm of random contrasts beside colours that fit into the pixel path whole; 1 is that of all differences of bands."""


class ResidualConvolution(nn.Module):
    """x + GELU(BN(3x3 convolution of x))."""

    def __init__(self, channels: int) -> None:
        """Make the layer for ``channels`` in and out."""
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a B x channels x H x W map."""
        return x + F.gelu(self.norm(self.convolution(x)))


class Stem(nn.Sequential):
    """Convolutions from B x C x H x W images to a B x d x ceil(H / 8) x ceil(W / 8) map."""

    def __init__(self, bands: int, width: int) -> None:
        """Make the stem for C ``bands`` and a map of ``width`` d."""
        super().__init__(
            nn.Conv2d(bands, 64, 1),
            ResidualConvolution(64),
            nn.Conv2d(64, 128, 2, stride=2),
            nn.BatchNorm2d(128),
            ResidualConvolution(128),
            nn.Conv2d(128, 256, 2, stride=2),
            nn.BatchNorm2d(256),
            nn.Conv2d(256, width, 3, stride=2, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Repeat the last row and column up to a multiple of 8 pixels, then convolve."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % STEM_STRIDE, 0, -height % STEM_STRIDE), mode="replicate")
        # Channels last, the convolutions are faster and the map's positions come out as contiguous tokens.
        out: Tensor = super().forward(images.contiguous(memory_format=torch.channels_last))
        return out


class HyperTokenizerCore(nn.Module):
    """Attribute perception and attribute match: images to attribute tokens and the two feature maps behind them.

    The spectral branch and the queries are as large as the reference grid. Images of another size are taken to it:
    the stem's map is resampled for the spectral branch, the queries are interpolated to the image's grid.
    """

    wavelengths: Tensor

    def __init__(
        self,
        sensor: Sensor,
        width: int,
        patch_size: int,
        grid: tuple[int, int],
        *,
        silent: bool = False,
        wavelengths: Sequence[float] | None = None,
    ) -> None:
        """Make the core.

        Args:
            sensor: Sensor of the images; gives the number of bands, their wavelengths and the pixel size.
            width: Width D of the tokens, a multiple of 16.
            patch_size: Side of a patch in pixels.
            grid: Rows and columns of patches of the reference image.
            silent: Start with attribute tokens of 0. Those of a random core hardly depend on the image: they are a
                pattern fixed to positions, as large as the pixels' own tokens, that the decoder would have to undo.
            wavelengths: Centre wavelengths in nm that the spectral map is coded by; the sensor's own by default.
        """
        super().__init__()
        half = width // 2
        self.grid = grid
        self.map_size = map_size(patch_size, grid)
        positions = self.map_size[0] * self.map_size[1]
        self.patch_size = patch_size
        self.ground_sampling_distance = sensor.ground_sampling_distance
        self.stem = Stem(len(sensor.bands), half)
        self.spatial_block = WindowBlock(half)
        self.spectral_block = TransformerBlock(positions)
        self.spatial_match = CrossAttention(half, half, half // 2)
        self.spectral_match = CrossAttention(half, positions, max(1, positions // 2))
        self.spatial_queries = nn.Parameter(torch.randn(grid[0] * grid[1], half))
        self.spectral_queries = nn.Parameter(torch.randn(grid[0] * grid[1], half))
        out = nn.Linear(4 * width, width, bias=False)
        if silent:
            nn.init.zeros_(out.weight)
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width, bias=False), nn.GELU(), out)
        nanometres = sensor.wavelengths if wavelengths is None else wavelengths
        self.register_buffer("wavelengths", wavelength_code(nanometres, half, positions), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Perceive B x C x H x W images.

        Returns:
            Attribute tokens B x T x D, the spatial map B x h x w x d and the spectral map B x d x (reference h * w),
            where d = D / 2, h = H / 8 and w = W / 8, rounded up.
        """
        grid = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        features = self.stem(images)
        spatial = self.perceive_space(features)
        spectral = self.perceive_spectrum(features)
        halves = [
            match(queries, source) + queries
            for match, queries, source in (
                (self.spatial_match, self.queries(self.spatial_queries, grid), spatial.flatten(1, 2)),
                (self.spectral_match, self.queries(self.spectral_queries, grid), spectral),
            )
        ]
        return self.ffn(torch.cat(halves, dim=-1)), spatial, spectral

    def perceive_space(self, features: Tensor) -> Tensor:
        """Relate the positions of a B x d x h x w map to one another; returns B x h x w x d."""
        spatial = self.spatial_block(features.permute(0, 2, 3, 1))
        _, rows, columns, width = spatial.shape
        code = ground_code(rows, columns, width, self.ground_sampling_distance, spatial.device, spatial.dtype)
        return spatial + code.view(rows, columns, width)

    def perceive_spectrum(self, features: Tensor) -> Tensor:
        """Relate the channels of a B x d x h x w map to one another; returns B x d x (reference h * w)."""
        spectral = self.spectral_block(resample(features, self.map_size).flatten(2))
        return spectral + self.wavelengths.to(spectral.dtype)

    def queries(self, queries: Tensor, grid: tuple[int, int]) -> Tensor:
        """The learnable queries as 1 x T x D/2, interpolated where the grid is not the reference."""
        maps = queries.T.unflatten(1, self.grid).unsqueeze(0)
        return resample(maps, grid).flatten(2).transpose(1, 2)


class HyperTokenizer(Tokenizer):
    """Tokens from attribute perception plus a low-rank path from the pixels, scaled per channel.

    The context it hands on has ``spatial`` (B x h x w x D/2) and ``spectral`` (B x D/2 x reference h * w), which the
    Are-adapter reads.
    """

    def __init__(
        self,
        sensor: Sensor,
        width: int,
        patch_size: int,
        grid: tuple[int, int],
        *,
        silent: bool = False,
        wavelengths: Sequence[float] | None = None,
    ) -> None:
        """Make the tokenizer; the arguments are those of :class:`HyperTokenizerCore`."""
        super().__init__()
        inner = inner_kernel(patch_size)
        outer = patch_size // inner
        self.patch_inputs = len(sensor.bands) * patch_size**2
        self.core = HyperTokenizerCore(sensor, width, patch_size, grid, silent=silent, wavelengths=wavelengths)
        self.pixels = nn.Sequential(
            nn.Conv2d(len(sensor.bands), PIXEL_RANK, inner, stride=inner),
            nn.Conv2d(PIXEL_RANK, width, outer, stride=outer),
        )
        self.scale = nn.Parameter(torch.ones(width))

    @property
    def _path(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The pixel path's convolutions, to its rank and to the width."""
        fine, coarse = (layer for layer in self.pixels if isinstance(layer, nn.Conv2d))
        return fine, coarse

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Let the pixel path begin with what a patch embedding makes of a grey image; how bands differ comes on top.

        The path's two convolutions make up one kernel of rank 16, with outputs and coarse positions as rows, bands and
        fine positions as columns. What the embedding makes of grey takes 4 of these ranks at patches of 8 and 14 pixels
        and all 16 at 16, and is repeated exactly. Of at most eight bands (at patches of 8 or 14) the other ranks take
        the largest part of how the embedding's kernels differ, such as the colours of an RGB model. To tell spectra
        apart from the start, the first convolution also has a random contrast between the bands in each channel, the
        same at all its positions. On uniform patches all differences together are as strong as the embedding's.

        Args:
            weight: D x C x p x p.
            bias: D, if there is one.
        """
        fine, coarse = self._path
        bands, inner = weight.shape[1], fine.kernel_size[0]
        # As large as the other channels, so that the contrasts of all of them count alike.
        usual = coarse.weight.std() * (coarse.weight.numel() // PIXEL_RANK) ** 0.5
        left, right = _largest(self._rows(weight.sum(dim=1, keepdim=True)), PIXEL_RANK)
        right = (right / usual).repeat(1, bands) / bands
        few = bands * inner**2 <= 2 * PIXEL_RANK
        if few:
            more_left, more_right = _largest(
                self._rows(weight - weight.mean(dim=1, keepdim=True)), PIXEL_RANK - len(right)
            )
            left, right = torch.cat([left, more_left], dim=1), torch.cat([right, more_right / usual])
        rank, side = len(right), coarse.kernel_size[0]
        coarse.weight[:, :rank] = (left * usual).view(-1, side, side, rank).permute(0, 3, 1, 2)
        fine.weight.zero_()
        fine.weight[:rank] = right.view(rank, bands, inner, inner)
        contrasts = orthogonal_contrasts(PIXEL_RANK, bands).to(weight)
        made = (coarse.weight.sum(dim=(2, 3)) @ contrasts).norm()
        wanted = _differences(weight.sum(dim=(2, 3)))
        if few:
            missing = (wanted**2 - _differences(self._of_uniform_patches()) ** 2).clamp_min(0).sqrt()
            wanted = torch.maximum(missing, LEAST_CONTRASTS * wanted)
        contrasts *= wanted / made.clamp_min(1e-12) / inner**2
        fine.weight += contrasts[..., None, None]
        if fine.bias is not None and coarse.bias is not None:
            fine.bias.zero_()
            coarse.bias.copy_(torch.zeros_like(coarse.bias) if bias is None else bias)

    def _rows(self, kernels: Tensor) -> Tensor:
        """Kernels, D x C x p x p, as a matrix: outputs and coarse positions by bands and fine positions."""
        fine, coarse = self._path
        side, inner = coarse.kernel_size[0], fine.kernel_size[0]
        blocks = kernels.unflatten(-1, (side, inner)).unflatten(-3, (side, inner)).permute(0, 2, 4, 1, 3, 5)
        return blocks.flatten(3).flatten(0, 2)

    def _of_uniform_patches(self) -> Tensor:
        """What the pixel path makes of uniform patches of each band, D x C, biases left out."""
        fine, coarse = self._path
        return coarse.weight.sum(dim=(2, 3)) @ fine.weight.sum(dim=(2, 3))

    def relative_learning_rates(self) -> dict[str, float]:
        """The pixel path's: its kernels sum up fewer inputs than a patch embedding's, a step changes the sum less."""
        inputs = {
            f"pixels.{index}.weight": layer.weight[0].numel()
            for index, layer in enumerate(self.pixels)
            if isinstance(layer, nn.Conv2d)
        }
        return {name: self.patch_inputs / number for name, number in inputs.items()}

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens and the two feature maps."""
        attributes, spatial, spectral = self.core(images)
        pixels = self.pixels(images).flatten(2).transpose(1, 2)
        return (attributes + pixels) * self.scale, {"spatial": spatial, "spectral": spectral}


def _largest(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest matrix of a rank to one of R x C: orthonormal R x rank, and rank x C; fewer where it has fewer."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = min(rank, len(values))
    return left[:, :rank], values[:rank, None] * right[:rank]


def _differences(responses: Tensor) -> Tensor:
    """How much D x C responses differ between bands: the norm of what is left without their mean."""
    return (responses - responses.mean(dim=1, keepdim=True)).norm()


def orthogonal_contrasts(channels: int, bands: int) -> Tensor:
    """Random weights, channels x C ``bands``, whose rows sum to 0.

    They are as near to orthogonal as so many can be. Independent ones would see some spectral directions many times
    better than others; which ones is luck, and a target that differs along these is then out of reach.
    """
    random = torch.randn(channels, bands)
    left, values, right = torch.linalg.svd(random - random.mean(dim=1, keepdim=True), full_matrices=False)
    kept = values > 1e-4 * values[0]
    contrasts: Tensor = left[:, kept] @ right[kept]
    return contrasts


def inner_kernel(patch_size: int) -> int:
    """Side of the pixel path's first kernel: a quarter of the patch, or the next smaller side that divides it."""
    return max(side for side in range(1, max(1, patch_size // 4) + 1) if patch_size % side == 0)


def map_size(patch_size: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the stem's map of an image of ``grid`` patches."""
    height, width = (-(-side * patch_size // STEM_STRIDE) for side in grid)
    return height, width
