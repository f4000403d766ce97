"""What masked reconstruction makes of held-out source tiles: how far off it is, beside two guesses, and pictures.

Nothing here draws from the generators that training uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.datamodules.windows import blank_outside
from spectral_tl_bench.records import GuessErrors, ReconstructionErrors
from spectral_tl_bench.training.reconstruction import (
    ReconstructionTask,
    cut,
    hidden_pixels,
    mean_of_visible,
    nearest_visible,
    patches_inside,
    random_mask,
    spectra,
)
from spectral_tl_bench.training.reconstruction_plot import Reconstruction, plot_reconstruction
from spectral_tl_bench.training.sample_images import eval_mode, inside_of, spread, subdomains_of, window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spectral_tl_bench.datamodules.protocol import ProtocolDataModule

RECONSTRUCTION = "reconstruction.png"

EXAMPLES = 4
"""Windows in the picture."""
TILES = 64
"""Tiles that the errors are measured on, at most."""
_AT_ONCE = 8


@dataclass(frozen=True)
class Reconstructions:
    """Windows of held-out source tiles, the same ones with the same patches hidden in every run of a protocol.

    Attributes:
        examples: The first few, for the picture.
        errors: The mean over all of them.
    """

    examples: tuple[Reconstruction, ...]
    errors: ReconstructionErrors

    @classmethod
    def of(cls, task: ReconstructionTask, data: ProtocolDataModule, device: torch.device) -> Reconstructions:
        """Reconstruct windows of held-out source tiles of all sub-domains."""
        positions = data.split.held_out
        chosen = spread(positions, subdomains_of(data, positions), TILES)
        generator = torch.Generator().manual_seed(0)
        examples: list[Reconstruction] = []
        errors: list[ReconstructionErrors] = []
        with eval_mode(task, device):
            for start in range(0, len(chosen), _AT_ONCE):
                found = _reconstruct(task, data, chosen[start : start + _AT_ONCE], generator, device)
                errors += [example.errors for example in found]
                examples += found[: EXAMPLES - len(examples)]
        return cls(tuple(examples), _mean(errors))

    def figure(self, task: ReconstructionTask, data: ProtocolDataModule, heading: str) -> Figure:
        """Draw the examples; ``heading`` says what ran on what."""
        notes = []
        if not task.method.blanks_masked_patches:
            notes.append("This method's tokenizer sees the whole image all the same.")
        if task.restores_pixels:
            units = "of the normalised image"
        else:
            units = "of patches normalised one by one"
            notes.append("Their own mean and deviation, taken from the input, colour the picture.")
        spectra_and_pixels = ", ".join(
            f"{name} {kind.model:.3f} ({kind.mean_of_visible:.3f}, {kind.nearest_visible:.3f})"
            for name, kind in (("spectra", self.errors.spectra), ("pixels", self.errors.pixels))
        )
        hidden = f"{task.training_spec.mask_ratio:.0%} of the patches are hidden"
        caption = (
            f"Windows of held-out source tiles; {hidden}. Errors are mean squares, in units {units}: in each row of "
            "the hidden patches' mean spectra, and those of two guesses at the same patches, the mean spectrum of the "
            "visible patches and the nearest visible patch. Over all held-out windows (both guesses in brackets): "
            f"{spectra_and_pixels}. {' '.join(notes)}"
        )
        return plot_reconstruction(self.examples, data.tiles.sensor, heading, caption)


def _reconstruct(
    task: ReconstructionTask,
    data: ProtocolDataModule,
    chosen: list[int],
    generator: torch.Generator,
    device: torch.device,
) -> list[Reconstruction]:
    images = torch.stack([window(data, position, task.training_spec) for position in chosen]).to(device)
    images = task.backbone.enlarge(images, task.training_spec.upsample)
    patch, grid = task.backbone.patch_size, task.backbone.grid_of(images)
    hidden = random_mask(
        len(images), grid[0] * grid[1], task.training_spec.mask_ratio, torch.device("cpu"), generator
    ).to(device)
    radiometry = data.radiometry.to(device)
    there = inside_of(data, chosen, task.training_spec).to(device)
    meant = hidden & patches_inside(there, grid)
    # Of a tile so small that none of its own patches is hidden, what was added is all there is to measure.
    meant = torch.where(meant.any(dim=1, keepdim=True), meant, hidden)
    whole_windows = F.interpolate(there[:, None].float(), size=images.shape[-2:], mode="nearest-exact")[:, 0] > 0
    normalised = blank_outside(radiometry(images), whole_windows)
    predicted, targets = task.reconstruct(normalised, hidden).float(), task.targets(normalised)
    guesses = mean_of_visible(targets, hidden, images.shape[1]), nearest_visible(targets, hidden, grid)
    patches = cut(normalised, patch)
    restored = predicted
    if not task.restores_pixels:
        deviation, mean = torch.std_mean(patches, dim=-1, keepdim=True)
        restored = predicted * deviation + mean
    restored = torch.where(hidden.unsqueeze(-1), restored, patches)
    whole = radiometry.undo(F.fold(restored.transpose(1, 2), images.shape[-2:], patch, stride=patch), images)
    pixels = hidden_pixels(images, hidden, patch)
    whole = torch.where(pixels, whole, images)
    names = data.tiles.index["tile"].iloc[chosen].astype(str)
    return [
        Reconstruction(
            tile=name,
            subdomain=data.split.subdomains[name],
            image=images[i].cpu().numpy(),
            restored=whole[i].cpu().numpy(),
            hidden=pixels[i, 0].cpu().numpy(),
            errors=_errors([(one - targets)[i][meant[i]] for one in (predicted, *guesses)], images.shape[1]),
        )
        for i, name in enumerate(names)
    ]


def _errors(differences: list[Tensor], bands: int) -> ReconstructionErrors:
    """Errors of the model and of both guesses, whose differences from the targets are N x (C * patch * patch)."""
    names = tuple(GuessErrors.model_fields)

    def squares(kind: list[Tensor]) -> GuessErrors:
        return GuessErrors(**{name: float(d.square().mean()) for name, d in zip(names, kind, strict=True)})

    return ReconstructionErrors(
        pixels=squares(differences), spectra=squares([spectra(difference, bands) for difference in differences])
    )


def _mean(errors: list[ReconstructionErrors]) -> ReconstructionErrors:
    def mean(kind: str) -> GuessErrors:
        rows = [getattr(one, kind).model_dump() for one in errors]
        return GuessErrors(**{name: sum(row[name] for row in rows) / len(rows) for name in GuessErrors.model_fields})

    return ReconstructionErrors(pixels=mean("pixels"), spectra=mean("spectra"))
