"""Stage 1: masked reconstruction without labels."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.utils import distributed

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.methods import Method
    from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder


class ReconstructionTask(AdaptationTask, abc.ABC):
    """Whatever hides patches of normalised images and restores them, as it is measured and drawn.

    Attributes:
        restores_pixels: Whether pixels are restored as they are, not normalised patch by patch.
    """

    stage = "reconstruction"
    restores_pixels: bool

    @abc.abstractmethod
    def targets(self, images: Tensor) -> Tensor:
        """What B x C x H x W normalised images should be restored to; B x T x (C * patch * patch), band after band."""

    @abc.abstractmethod
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore the patches of ``images`` that are ``hidden``, B x T; what :meth:`targets` gives, as far as known."""


class MaskedReconstruction(ReconstructionTask):
    """Masked autoencoding of spectral images (He et al., 2022; SpectralX, stage 1).

    Patches are hidden at random, the visible ones pass the adapted backbone, and a small decoder restores the hidden
    ones. The method says what a patch is restored to (:attr:`~spectral_tl_bench.methods.Method.reconstruction_target`):

    "plain_pixels" are the pixels of the normalised image, as SpectralX's released code restores them.

    "normalised_patches" are its pixels, normalised by the patch's mean and deviation (He et al., 2022). Their inside
    cannot be guessed from elsewhere in few steps, so the error stays where a flat patch has it.

    "pixels" are those of the normalised image. The decoder predicts how they differ from the spectra of visible patches
    weighted by their distance, so that this interpolation is where it starts; its reach, in patches, is learned too. A
    patch's mean spectrum counts as much as its inside does.
    """

    def __init__(
        self, backbone: Backbone, method: Method, training: TrainingSpec, decoder: ReconstructionDecoder
    ) -> None:
        """Keep the decoder beside the backbone."""
        super().__init__(backbone, method, training)
        self.decoder = decoder
        self.restores_pixels = method.reconstruction_target != "normalised_patches"
        self.interpolates = method.reconstruction_target == "pixels"
        if self.interpolates:
            self.log_reach = nn.Parameter(torch.zeros(()))
            nn.init.zeros_(decoder.pixels.weight)
            nn.init.zeros_(decoder.pixels.bias)

    def targets(self, images: Tensor) -> Tensor:
        """What B x C x H x W normalised images should be restored to; B x T x (C * patch * patch), band after band."""
        patch = self.backbone.patch_size
        return cut(images, patch) if self.restores_pixels else normalised_patches(images, patch)

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches.

        Args:
            images: B x C x H x W, normalised.
            hidden: B x T, True where a patch is hidden; every image hides equally many.

        Returns:
            What :meth:`targets` gives, as far as visible patches tell; only the hidden ones are meant.
        """
        given = images
        if self.method.blanks_masked_patches:
            given = blank(images, hidden, self.backbone.patch_size)
        restored = self.decode(given, (~hidden).nonzero()[:, 1].view(len(images), -1))
        if self.interpolates:
            reach, grid = self.log_reach.exp(), self.backbone.grid_of(images)
            restored = restored + interpolated(self.targets(images), hidden, images.shape[1], grid, reach)
        return restored

    def decode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Let the decoder predict every patch from the visible ones.

        Args:
            images: B x C x H x W, normalised.
            visible: B x V places of the visible patches.

        Returns:
            B x T x (C * patch * patch).
        """
        tokens = self.backbone.embed(images)
        encoded = self.backbone.encode(tokens.keep(visible))[-1]
        predicted: Tensor = self.decoder(encoded, visible, tokens.grid)
        return predicted

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error over the hidden patches."""
        images = self.backbone.enlarge(batch["image"], self.training_spec.upsample)
        rows, columns = self.backbone.grid_of(images)
        whole = len(images) * distributed.world_size()
        hidden = distributed.local_rows(
            random_mask(whole, rows * columns, self.training_spec.mask_ratio, images.device), len(images)
        )
        meant = hidden
        if "inside" in batch:
            meant = hidden & patches_inside(batch["inside"], (rows, columns))
        restored = self.reconstruct(images, hidden)
        difference = (restored - self.targets(images))[meant]
        # What was added to tiles smaller than the window leaves processes with unequal shares of what is meant.
        share = 1.0
        if distributed.is_distributed():
            share = len(difference) / max(1.0, float(distributed.mean(images.new_tensor(float(len(difference))))))
        if not len(difference):
            # All that is hidden was added.
            return self.total_loss(restored.sum() * 0)
        loss = difference.square().mean()
        if self.interpolates:
            # Once more for the mean spectra, which are a fraction of the pixels' error but all that can be guessed.
            loss = loss + spectra(difference, images.shape[1]).square().mean()
        return self.total_loss(loss * share)


def patches_inside(inside: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which patches lie in their tile and hold nothing that was added to it.

    Args:
        inside: B x H x W, True in the tile.
        grid: Rows and columns of patches.

    Returns:
        B x T.
    """
    added = F.adaptive_max_pool2d((~inside).float().unsqueeze(1), grid)
    return (added == 0).flatten(1)


def hidden_patches(tokens: int, ratio: float) -> int:
    """How many of so many patches are hidden: at least one, and never all."""
    return max(1, min(tokens - 1, round(ratio * tokens)))


def random_mask(
    batch: int, tokens: int, ratio: float, device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """Hide the same share of random patches in every image; B x T, True where hidden."""
    hidden = hidden_patches(tokens, ratio)
    order = torch.rand(batch, tokens, device=device, generator=generator).argsort(dim=1).argsort(dim=1)
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


def cut(images: Tensor, patch: int) -> Tensor:
    """Cut B x C x H x W images into patches, B x T x (C * patch * patch), band after band."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def normalised_patches(images: Tensor, patch: int) -> Tensor:
    """Cut images into patches and normalise each by its own mean and deviation; B x T x (C * patch * patch)."""
    patches = cut(images, patch)
    mean = patches.mean(dim=-1, keepdim=True)
    deviation = (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / deviation


def spectra(patches: Tensor, bands: int) -> Tensor:
    """Mean spectra of patches, ... x (C * patch * patch) to ... x C."""
    return patches.unflatten(-1, (bands, -1)).mean(dim=-1)


def mean_of_visible(patches: Tensor, hidden: Tensor, bands: int) -> Tensor:
    """A guess at hidden patches: the mean spectrum of the image's visible ones, everywhere.

    Args:
        patches: B x T x (C * patch * patch).
        hidden: B x T.
        bands: C.

    Returns:
        As ``patches``.
    """
    weights = (~hidden).unsqueeze(-1).to(patches.dtype)
    mean = (spectra(patches, bands) * weights).sum(dim=1) / weights.sum(dim=1)
    return mean.repeat_interleave(patches.shape[-1] // bands, dim=-1).unsqueeze(1).expand_as(patches)


def nearest_visible(patches: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """A guess at hidden patches: the nearest visible one, the first of equally near ones.

    Args:
        patches: B x T x (C * patch * patch).
        hidden: B x T.
        grid: Rows and columns, T in all.

    Returns:
        As ``patches``.
    """
    far = distances(grid, patches).expand(len(patches), -1, -1).masked_fill(hidden.unsqueeze(1), torch.inf)
    return patches.gather(1, far.argmin(dim=-1, keepdim=True).expand_as(patches))


def interpolated(
    patches: Tensor, hidden: Tensor, bands: int, grid: tuple[int, int], reach: Tensor | float = 1.0
) -> Tensor:
    """Mean spectra of the image's visible patches, weighted by exp(-distance / reach).

    Args:
        patches: B x T x (C * patch * patch).
        hidden: B x T.
        bands: C.
        grid: Rows and columns, T in all.
        reach: In patches.

    Returns:
        As ``patches``, each flat.
    """
    nearness = (-distances(grid, patches) / reach).expand(len(patches), -1, -1)
    weights = nearness.masked_fill(hidden.unsqueeze(1), -torch.inf).softmax(dim=-1)
    return (weights @ spectra(patches, bands)).repeat_interleave(patches.shape[-1] // bands, dim=-1)


def distances(grid: tuple[int, int], like: Tensor) -> Tensor:
    """How far the patches of a grid are from one another, T x T in patches, in the type and place of a tensor."""
    places = torch.cartesian_prod(*(torch.arange(side, device=like.device, dtype=like.dtype) for side in grid))
    return (places.unsqueeze(1) - places).norm(dim=-1)
