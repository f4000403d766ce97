"""VPT-deep: prompt tokens in every block."""

import inspect
import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone, Layout
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import METHODS


class PromptedBlock(nn.Module):
    """A block that sees fresh prompt tokens between prefix and patch tokens; what it makes of them is dropped."""

    def __init__(self, block: nn.Module, prompts: Tensor, layout: Layout) -> None:
        """Give ``block`` the p x D ``prompts``."""
        super().__init__()
        self.block = block
        self.prompts = nn.Parameter(prompts)
        self.layout = layout

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block on B x (P + T) x D tokens."""
        prefix, patches = self.layout.split(x)
        prompts = self.prompts.expand(len(x), -1, -1)
        prefix, rest = self.layout.split(self.block(torch.cat([prefix, prompts, patches], dim=1), *args, **kwargs))
        return self.layout.join(prefix, rest[:, len(self.prompts) :])


@METHODS.register("vpt")
@dataclass
class VPT(Method):
    """Prompt tokens, fresh ones in every block (VPT-deep; Jia et al., 2022, section 3.2).

    Drawn from U(-v, v) with v² = 6 / (3 p² + D) for patches of p pixels, as in the authors' code. The prompts take part
    in attention from the start, so that training does not start from the pretrained function. 1.23 M parameters on a
    ViT-L at 50 prompts a block.
    """

    changes_start = "prompts take part in attention"
    learning_rate_factor = 4.0

    prompts: Annotated[int, Field(ge=1)] = 50

    def adapt(self, backbone: Backbone) -> None:
        """Put prompts into every block.

        Raises:
            SpectralBenchError: If the blocks turn queries and keys by position and do not say which tokens have none.
        """
        for block in backbone.blocks:
            attention: Any = getattr(block, "attn", None)
            if hasattr(attention, "num_prefix_tokens"):
                # Rotary positions belong to patch tokens: for attention, prompts are more prefix.
                attention.num_prefix_tokens += self.prompts
            elif "rope" in inspect.signature(block.forward).parameters:
                raise SpectralBenchError(
                    "vpt cannot keep prompts out of the rotary positions of this backbone's attention; take another "
                    "backbone or method"
                )
        bound = math.sqrt(6 / (3 * backbone.patch_size**2 + backbone.width))
        backbone.blocks = nn.ModuleList(
            PromptedBlock(block, torch.empty(self.prompts, backbone.width).uniform_(-bound, bound), backbone.layout)
            for block in backbone.blocks
        )
