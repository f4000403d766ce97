"""What a run shows of its model on a few tiles: reconstructed windows, and whatever the method itself has to show.

Nothing here draws from the generators that training uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.datamodules.windows import TrainingWindows
from spectral_tl_bench.report.tables import HELD_OUT
from spectral_tl_bench.runs.reconstruction_plot import Reconstruction, plot_reconstruction
from spectral_tl_bench.tasks.reconstruction import MaskedReconstruction, hidden_pixels, normalised_patches, random_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
    from spectral_tl_bench.spec import TrainingSpec

EXAMPLES = 4
"""Windows in the picture of masked reconstruction."""
TILES = 16
"""Tiles of the held-out source, and of all targets, that a method's diagnostics see."""


@contextlib.contextmanager
def looking_at(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate a module on a device, without gradients; afterwards it is as it was."""
    home = next(module.parameters()).device
    modes = {part: part.training for part in module.modules()}
    module.eval().to(device)
    try:
        with torch.no_grad():
            yield
    finally:
        module.to(home)
        for part, mode in modes.items():
            part.training = mode


def spread(positions: np.ndarray, subdomains: list[str], count: int) -> list[int]:
    """Choose tiles from all sub-domains alike, evenly spaced in each.

    Args:
        positions: Rows of the index.
        subdomains: The sub-domain of each.
        count: How many; fewer where there are not as many.
    """
    groups = [positions[np.array(subdomains) == name] for name in sorted(set(subdomains))]
    each = -(-count // len(groups))
    picks = [group[np.linspace(0, len(group) - 1, min(each, len(group))).round().astype(int)] for group in groups]
    # Round by round, so that a small count still sees as many sub-domains as it can.
    rounds = [[int(pick[i]) for pick in picks if i < len(pick)] for i in range(each)]
    first = np.linspace(0, len(rounds[0]) - 1, min(count, len(rounds[0]))).round().astype(int)
    return [*(rounds[0][i] for i in first), *(p for later in rounds[1:] for p in later)][:count]


def window(data: ProtocolDataModule, position: int, training: TrainingSpec) -> Tensor:
    """Reflectance of a tile as the model sees it, C x size x size: resampled, or the middle of it."""
    size = training.image_size
    windows = TrainingWindows(data.tiles, size, resize=training.resolution == "resize")
    top, left = (max(0, int(sides[position]) - size) // 2 for sides in (windows.heights, windows.widths))
    return data.tiles.to_reflectance(windows[position, top, left]["image"])


def subdomains_of(data: ProtocolDataModule, positions: np.ndarray) -> list[str]:
    """Sub-domain of each of some rows of the index."""
    return [data.split.subdomains[str(name)] for name in data.tiles.index["tile"].iloc[positions]]


def reconstructions(task: MaskedReconstruction, data: ProtocolDataModule, device: torch.device) -> list[Reconstruction]:
    """Reconstruct windows of a few held-out source tiles, the same ones in every run of a protocol."""
    positions = data.split.held_out
    chosen = spread(positions, subdomains_of(data, positions), EXAMPLES)
    images = torch.stack([window(data, position, task.training_spec) for position in chosen]).to(device)
    images = task.backbone.enlarge(images, task.training_spec.upsample)
    patch, (rows, columns) = task.backbone.patch_size, task.backbone.grid_of(images)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        hidden = random_mask(len(images), rows * columns, task.training_spec.mask_ratio, torch.device("cpu")).to(device)
    radiometry = data.radiometry.to(device)
    normalised = radiometry(images)
    with looking_at(task, device):
        predicted = task.reconstruct(normalised, hidden).float()
    errors = (predicted - normalised_patches(normalised, patch)).square().mean(dim=-1)
    patches = F.unfold(normalised, patch, stride=patch).transpose(1, 2)
    deviation, mean = torch.std_mean(patches, dim=-1, keepdim=True)
    restored = torch.where(hidden.unsqueeze(-1), predicted * deviation + mean, patches)
    size = images.shape[-2:]
    whole = radiometry.undo(F.fold(restored.transpose(1, 2), size, patch, stride=patch), images)
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
            error=float(errors[i][hidden[i]].mean()),
        )
        for i, name in enumerate(names)
    ]


def reconstruction_figure(
    task: MaskedReconstruction, data: ProtocolDataModule, device: torch.device, heading: str
) -> Figure:
    """Draw what masked reconstruction makes of held-out source tiles; ``heading`` says what ran on what."""
    seen = "" if task.method.blanks_masked_patches else " This method's tokenizer sees the whole image all the same."
    caption = (
        f"Windows of held-out source tiles; {task.training_spec.mask_ratio:.0%} of the patches are hidden.{seen} The "
        "model predicts patches normalised by their own mean and deviation; the picture takes both from the input, and "
        "shows visible patches as they are. The error is the mean squared one of the normalised hidden patches; a flat "
        "patch gets 1."
    )
    return plot_reconstruction(reconstructions(task, data, device), data.tiles.sensor, heading, caption)


def images_by_domain(data: ProtocolDataModule, training: TrainingSpec, device: torch.device) -> dict[str, Tensor]:
    """A few windows of the held-out source and of each target sub-domain, normalised; N x C x size x size each."""
    radiometry = data.radiometry.to(device)
    held_out, target = data.split.held_out, data.split.target
    names = subdomains_of(data, target)
    parts = {HELD_OUT: spread(held_out, subdomains_of(data, held_out), TILES)}
    of_targets = spread(target, names, max(TILES, len(set(names))))
    for position, name in zip(of_targets, subdomains_of(data, np.array(of_targets)), strict=True):
        parts.setdefault(name, []).append(position)
    return {
        name: radiometry(torch.stack([window(data, p, training) for p in chosen]).to(device))
        for name, chosen in parts.items()
    }
