"""Stage 1: masked reconstruction without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.spec import TrainingSpec
from spectral_tl_bench.tasks.base import AdaptationTask

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.decoders.reconstruction import ReconstructionDecoder
    from spectral_tl_bench.methods import Method


class MaskedReconstruction(AdaptationTask):
    """Masked autoencoding of spectral images (He et al., 2022; SpectralX, stage 1).

    Patches are hidden at random, the visible ones pass the adapted backbone, and a small decoder restores the pixels of
    the hidden ones, each patch normalised by its own mean and deviation.
    """

    stage = "reconstruction"

    def __init__(
        self, backbone: Backbone, method: Method, training: TrainingSpec, decoder: ReconstructionDecoder
    ) -> None:
        """Keep the decoder beside the backbone."""
        super().__init__(backbone, method, training)
        self.decoder = decoder

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches.

        Args:
            images: B x C x H x W, normalised.
            hidden: B x T, True where a patch is hidden; every image hides equally many.

        Returns:
            B x T x (patch * patch * C) patches; only the hidden ones are meant.
        """
        if self.method.blanks_masked_patches:
            images = blank(images, hidden, self.backbone.patch_size)
        tokens = self.backbone.embed(images)
        visible = (~hidden).nonzero()[:, 1].view(len(images), -1)
        encoded = self.backbone.encode(tokens.keep(visible))[-1]
        restored: Tensor = self.decoder(encoded, visible, tokens.grid)
        return restored

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error over the hidden patches."""
        images = self.backbone.enlarge(batch["image"], self.training_spec.upsample)
        rows, columns = self.backbone.grid_of(images)
        hidden = random_mask(len(images), rows * columns, self.training_spec.mask_ratio, images.device)
        target = normalised_patches(images, self.backbone.patch_size)
        error = (self.reconstruct(images, hidden) - target).square().mean(dim=-1)
        return self.total_loss(error[hidden].mean())


def random_mask(batch: int, tokens: int, ratio: float, device: torch.device) -> Tensor:
    """Hide the same share of random patches in every image; B x T, True where hidden."""
    hidden = max(1, min(tokens - 1, round(ratio * tokens)))
    order = torch.rand(batch, tokens, device=device).argsort(dim=1).argsort(dim=1)
    return order < hidden


def blank(images: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Set the pixels of hidden patches to 0, the mean of normalised images.

    Args:
        images: B x C x H x W.
        hidden: B x T.
        patch: Side of a patch in pixels.
    """
    return images.masked_fill(hidden_pixels(images, hidden, patch), 0.0)


def hidden_pixels(images: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Where the hidden patches of B x C x H x W images lie; B x 1 x H x W, True where hidden."""
    grid = hidden.view(len(images), 1, images.shape[-2] // patch, images.shape[-1] // patch)
    return grid.repeat_interleave(patch, dim=-2).repeat_interleave(patch, dim=-1)


def normalised_patches(images: Tensor, patch: int) -> Tensor:
    """Cut images into patches and normalise each by its own mean and deviation; B x T x (patch * patch * C)."""
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2)
    mean = patches.mean(dim=-1, keepdim=True)
    deviation = (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / deviation
