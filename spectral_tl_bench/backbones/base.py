"""What a pretrained vision transformer must offer here: images in, features after four tap blocks out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spectral_tl_bench.backbones.layout import Layout
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import DataError, SpectralBenchError

NUM_TAPS = 4

BANDS = "bands"
"""What a tokenizer that makes a token of each band calls their differences from a patch's mean in its context."""


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Patch tokens on their way into the blocks.

    Attributes:
        patches: B x T x D, positions added.
        prefix: B x P x D, class and register tokens (P may be 0).
        grid: Rows and columns of patches; T = rows * columns until tokens are dropped.
        rotary: Rotary position code of the patches, T x R or B x T x R, for backbones that turn queries and keys.
        positions: B x T places of the patches in the grid once some were dropped, None before.
        bands: How the token of each band differs from ``patches``, B x T x G x D, for backbones whose blocks see one
            token for each of G bands of a patch; None where a patch is one token.
        context: What a tokenizer, or a part behind it, passes on to later parts of the same forward pass, by name.
    """

    patches: Tensor
    prefix: Tensor
    grid: tuple[int, int]
    rotary: Tensor | None = None
    positions: Tensor | None = None
    bands: Tensor | None = None
    context: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def keep(self, positions: Tensor) -> Tokens:
        """Keep only some patches of each image, as a masked autoencoder's encoder does.

        Args:
            positions: B x K indices into T.
        """
        width = self.patches.shape[-1]
        patches = self.patches.gather(1, positions.unsqueeze(-1).expand(-1, -1, width))
        rotary = self.rotary
        if rotary is not None:
            of_each_image = rotary.expand(len(positions), *rotary.shape[-2:])
            rotary = of_each_image.gather(1, positions.unsqueeze(-1).expand(-1, -1, rotary.shape[-1]))
        bands = self.bands
        if bands is not None:
            bands = bands.gather(1, positions[..., None, None].expand(-1, -1, *bands.shape[2:]))
        places = positions if self.positions is None else self.positions.gather(1, positions)
        return dataclasses.replace(self, patches=patches, rotary=rotary, positions=places, bands=bands)

    @property
    def tokens_a_patch(self) -> int:
        """G: 1 where a patch is one token."""
        return 1 if self.bands is None else self.bands.shape[2]

    def sequence(self) -> Tensor:
        """What the blocks see: prefix tokens, then the tokens of every patch; B x (P + T * G) x D."""
        patches = self.patches
        if self.bands is not None:
            patches = (patches.unsqueeze(2) + self.bands).flatten(1, 2)
        return torch.cat([self.prefix, patches], dim=1)


class Tokenizer(nn.Module):
    """Images to patch tokens; a method may put its own in place of the backbone's patch embedding."""

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens and what later parts want to know."""
        raise NotImplementedError

    def kernels(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight, D x C x p x p, and bias, D, of the convolution that this is; None where it is something else."""
        return None

    def see(self, sensor: Sensor) -> None:
        """Make tokens of another sensor's bands from now on.

        Raises:
            SpectralBenchError: If the tokenizer was built for its bands alone, as most are.
        """
        raise SpectralBenchError(
            f"{type(self).__name__} makes no tokens from wavelengths, so it cannot see the bands of {sensor.name}; a "
            "method that puts it in place says so with keeps_tokenizer = False"
        )

    def limit_tokens(self, most: int) -> None:
        """Make at most so many tokens of the bands of a patch; most tokenizers make one in any case."""

    def relative_learning_rates(self) -> dict[str, float]:
        """How much faster than a patch embedding some parameters may learn, by name; those left out as fast as it."""
        return {}


class PatchEmbedding(Tokenizer):
    """The plain patch embedding: one convolution with kernel and stride of the patch size."""

    def __init__(self, projection: nn.Conv2d) -> None:
        """Wrap a convolution C -> D."""
        super().__init__()
        self.projection = projection

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens."""
        return self.projection(images).flatten(2).transpose(1, 2), {}

    def kernels(self) -> tuple[Tensor, Tensor | None]:
        """The convolution's weight, D x C x p x p, and bias, D."""
        return self.projection.weight, self.projection.bias


class TapModule(nn.Module):
    """Something that refines the patch tokens after a tap block; the plain one returns them as they are.

    Attributes:
        relative_learning_rate: Factor on the learning rate of what adapts, for its parameters.
    """

    relative_learning_rate: float = 1.0

    def forward(self, patches: Tensor, tokens: Tokens) -> Tensor:
        """Refine B x T x D patch tokens; ``tokens`` gives the grid and the tokenizer's context."""
        return patches


class Backbone(nn.Module):
    """A vision transformer as methods see it.

    A method may replace ``tokenizer``, wrap modules inside ``blocks`` (each has ``norm1``, ``attn``, ``norm2`` and
    ``mlp`` with ``fc1`` and ``fc2``) and put a :class:`TapModule` into ``after_tap``. A family overrides
    :meth:`position` and, where its blocks take more than tokens, :meth:`run_block`.

    Attributes:
        tokenizer: B x C x H x W -> B x T x D.
        blocks: The transformer blocks.
        taps: Indices of the four blocks whose output the decoder sees: quarter, half, three quarters, last. In a
            model of fewer than four blocks some are the same.
        after_tap: One module a tap.
        layout: Prefix tokens and grid of the current forward pass, for modules inside the blocks.
        sensor: Sensor of the images.
        width: D.
        patch_size: Side of a patch in pixels.
        knows_positions: Whether features depend on where a patch lies; False of models of single pixels.
        pretrained_grid: Rows and columns of patches of the images it was pretrained with; None where that is not known.
        recomputes: Whether the activations of blocks are computed again on the way back instead of kept.
        metres_a_pixel: What positions are counted by, for families that count them on the ground; None for others.
        enlargement: How many times :meth:`enlarge` enlarged the images that are embedded next; positions counted on the
            ground are divided by it.
        band_dropping: Share of a patch's band tokens that each training step leaves out, in families that have them.
        drawn: Names of the parameters that were drawn at random when it was built, the others came with pretrained
            weights: all of them without weights, with those of an RGB model the patch embedding of other bands.
    """

    pretrained_grid: tuple[int, int] | None = None
    knows_positions: ClassVar[bool] = True

    def __init__(
        self, tokenizer: Tokenizer, blocks: Iterable[nn.Module], *, sensor: Sensor, width: int, patch_size: int
    ) -> None:
        """Assemble a backbone; see the class for what each part is."""
        super().__init__()
        self.tokenizer = tokenizer
        self.blocks = nn.ModuleList(blocks)
        depth = len(self.blocks)
        self.taps = tuple(max(0, depth * quarter // NUM_TAPS - 1) for quarter in range(1, NUM_TAPS + 1))
        self.after_tap = nn.ModuleList(TapModule() for _ in self.taps)
        self.layout = Layout()
        self.sensor = sensor
        self.width = width
        self.patch_size = patch_size
        self.recomputes = False
        self.metres_a_pixel: float | None = None
        self.enlargement = 1.0
        self.band_dropping = 0.0
        self.drawn: frozenset[str] = frozenset()
        self.pretrained_parameters: frozenset[int] = frozenset()
        self.kept_alive: tuple[nn.Parameter, ...] = ()

    @property
    def unread_bands(self) -> frozenset[str]:
        """Names of the sensor's bands that features do not depend on."""
        return frozenset()

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Add the position code to B x T x D patch tokens and make the prefix tokens."""
        raise NotImplementedError

    def run_block(self, block: nn.Module, x: Tensor, tokens: Tokens) -> Tensor:
        """Run one block on B x (P + T) x D tokens."""
        out: Tensor = block(x)
        return out

    @contextlib.contextmanager
    def seeing(self, sensor: Sensor | None) -> Iterator[None]:
        """See another sensor's bands for a while, by their wavelengths; None changes nothing.

        Raises:
            SpectralBenchError: If the tokenizer was built for its bands alone.
        """
        if sensor is None:
            yield
            return
        own = self.sensor
        self.tokenizer.see(sensor)
        self.sensor = sensor
        try:
            yield
        finally:
            self.tokenizer.see(own)
            self.sensor = own

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of B x C x H x W images.

        Raises:
            DataError: If the patch does not divide the image or the bands are not the sensor's.
        """
        _, bands, height, width = images.shape
        if bands != len(self.sensor.bands):
            raise DataError(f"the backbone was built for {len(self.sensor.bands)} bands but the image has {bands}")
        if height % self.patch_size or width % self.patch_size:
            raise DataError(f"images of {height} x {width} px: both sides must be multiples of {self.patch_size}")
        return height // self.patch_size, width // self.patch_size

    def enlarge(self, images: Tensor, factor: int) -> Tensor:
        """Enlarge images before the tokenizer, so that a token covers fewer of their pixels.

        Args:
            images: B x C x H x W.
            factor: How many times; 1 leaves them as they are. Each side becomes the nearest multiple of the patch.
        """
        self.enlargement = 1.0
        if factor == 1:
            return images
        size = [max(1, round(side * factor / self.patch_size)) * self.patch_size for side in images.shape[-2:]]
        self.enlargement = size[0] / images.shape[-2]
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)

    def limit_band_tokens(self, most: int, dropping: float) -> None:
        """Bound what a token for each band costs; nothing changes in families with one token a patch.

        Args:
            most: Tokens that the bands of a patch become at most; neighbouring bands share one.
            dropping: Share of them that each training step leaves out, the same for all patches.
        """
        self.tokenizer.limit_tokens(most)
        self.band_dropping = dropping

    def embed(self, images: Tensor) -> Tokens:
        """Turn B x C x H x W images into tokens with positions."""
        grid = self.grid_of(images)
        patches, context = self.tokenizer(images)
        bands = context.pop(BANDS, None)
        tokens = self.position(patches, grid, context)
        if bands is None:
            return tokens
        if self.training and self.band_dropping:
            many = bands.shape[2]
            kept = torch.randperm(many, device="cpu")[: max(1, round((1 - self.band_dropping) * many))]
            bands = bands[:, :, kept.sort().values.to(bands.device)]
        return dataclasses.replace(tokens, bands=bands)

    def encode(self, tokens: Tokens) -> list[Tensor]:
        """Run the blocks and return the patch tokens after each tap, B x T x D each.

        Where a patch has a token for each band, that is their mean, and the module after the tap refines it.
        """
        return self.run_blocks(tokens)[1]

    def run_blocks(self, tokens: Tokens) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks and return the prefix tokens after the last, B x P x D, and what :meth:`encode` returns."""
        prefix, several = tokens.prefix.shape[1], tokens.tokens_a_patch
        self.layout.prefix, self.layout.grid, self.layout.positions = prefix, tokens.grid, tokens.positions
        self.layout.tokens_a_patch = several
        x = tokens.sequence()
        features: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if self.recomputes and self.training and torch.is_grad_enabled():
                x = checkpoint(self.run_block, block, x, tokens, use_reentrant=False)
            else:
                x = self.run_block(block, x, tokens)
            for _ in range(self.taps.count(index)):
                patches = x[:, prefix:]
                pooled = self.pool(patches, several, index)
                refined = self.after_tap[len(features)](pooled, tokens)
                if several > 1:
                    update = (refined - pooled).unsqueeze(2).expand(-1, -1, several, -1)
                    patches = patches + update.flatten(1, 2)
                x = torch.cat([x[:, :prefix], refined if several == 1 else patches], dim=1)
                features.append(refined)
        return x[:, :prefix], features

    def pool(self, patches: Tensor, tokens_a_patch: int, index: int) -> Tensor:
        """Turn the B x (T * G) x D patch tokens after block ``index`` into B x T x D features, their mean over G."""
        return patches if tokens_a_patch == 1 else patches.unflatten(1, (-1, tokens_a_patch)).mean(dim=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features after each tap as maps, B x D x h x w each."""
        tokens = self.embed(images)
        rows, columns = tokens.grid
        return [f.transpose(1, 2).unflatten(2, (rows, columns)) for f in self.encode(tokens)]
