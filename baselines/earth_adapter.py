"""Earth-Adapter: bottlenecks after each block, in the last ones with experts for low and high frequencies."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone, Layout
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import METHODS

from .insertion import AfterBlock, Bottleneck


class Refinement(nn.Module):
    """f + s MLP(f), with a learned scale s."""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        """Make an MLP D -> hidden -> D and s = ``scale``."""
        super().__init__()
        self.mlp = Bottleneck(width, hidden, nn.ReLU())
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, patches: Tensor) -> Tensor:
        """Refine B x T x D patch tokens."""
        return patches + self.scale * self.update(patches)

    def update(self, patches: Tensor) -> Tensor:
        """What is scaled and added."""
        out: Tensor = self.mlp(patches)
        return out


class FrequencyRefinement(Refinement):
    """The same with three experts, on the features and on their low and high frequencies, mixed token by token."""

    def __init__(self, width: int, hidden: int, scale: float, cutoff: float, layout: Layout) -> None:
        """Make experts and router; for ``cutoff`` see :func:`low_pass`."""
        super().__init__(width, hidden, scale)
        self.mlp_low = Bottleneck(width, hidden, nn.ReLU())
        self.mlp_high = Bottleneck(width, hidden, nn.ReLU())
        self.router = nn.Linear(width, 3)
        self.cutoff = cutoff
        self.layout = layout

    def update(self, patches: Tensor) -> Tensor:
        """What is scaled and added."""
        low = self.layout.from_map(low_pass(self.layout.to_map(patches), self.cutoff))
        full_weight, low_weight, high_weight = self.router(patches).softmax(dim=-1).split(1, dim=-1)
        out: Tensor = (
            full_weight * self.mlp(patches)
            + low_weight * self.mlp_low(low)
            + high_weight * self.mlp_high(patches - low)
        )
        return out


def low_pass(maps: Tensor, cutoff: float) -> Tensor:
    """Keep the low frequencies of B x D x h x w maps; what is taken away are the high ones.

    Low is below ``cutoff`` times the highest frequency of the grid, in both directions, for positive and negative
    frequencies alike, so that the result is real and always has the mean.
    """
    rows, columns = maps.shape[-2:]
    vertical = torch.fft.fftfreq(rows, device=maps.device).abs() < cutoff / 2
    horizontal = torch.fft.rfftfreq(columns, device=maps.device) < cutoff / 2
    # In single precision: half-precision transforms exist for few sizes only.
    spectrum = torch.fft.rfft2(maps.float()) * (vertical[:, None] & horizontal)
    return torch.fft.irfft2(spectrum, s=(rows, columns)).to(maps.dtype)


def _indices(given: Any) -> Any:
    """Several indices in one text, separated by commas."""
    return given.split(",") if isinstance(given, str) and "," in given else given


@METHODS.register("earth_adapter")
@dataclass
class EarthAdapter(Method):
    """Bottlenecks after each block, in the last blocks a mixture over frequencies (Earth-Adapter; Hu et al., 2025).

    f + s MLP(f) on the patch tokens with a learned s; some blocks mix three such MLPs, on the features and on their
    low and high frequencies. 3.97 M parameters on a ViT-L.

    Declared differences from the authors' code: the MLPs' last layers start at 0, so that training starts at the
    pretrained function, and the low-pass is symmetric. Experts that a block does not use are not allocated.

    Attributes:
        frequency_blocks: How many of the last blocks mix frequencies, or the indices of those that do, from 0 (the
            authors' settings name them: ``0,1,2,3,4,5`` for one of their transfers).
    """

    learning_rate_factor = 4.0

    hidden: Annotated[int, Field(ge=1)] = 64
    scale: float = 0.1
    frequency_blocks: Annotated[
        Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_indices)
    ] = 3
    cutoff: Annotated[float, Field(gt=0, lt=1)] = 0.3

    def adapt(self, backbone: Backbone) -> None:
        """Put a refinement after each block."""
        depth, chosen = len(backbone.blocks), self.frequency_blocks
        with_frequencies = range(max(0, depth - chosen), depth) if isinstance(chosen, int) else chosen
        if missing := [index for index in with_frequencies if index >= depth]:
            raise SpectralBenchError(
                f"frequency_blocks names block {missing[0]}, but the backbone has {depth}: the last is {depth - 1}"
            )

        def refinement(index: int) -> Refinement:
            if index not in with_frequencies:
                return Refinement(backbone.width, self.hidden, self.scale)
            return FrequencyRefinement(backbone.width, self.hidden, self.scale, self.cutoff, backbone.layout)

        backbone.blocks = nn.ModuleList(
            AfterBlock(block, refinement(index), backbone.layout) for index, block in enumerate(backbone.blocks)
        )
