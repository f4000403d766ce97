"""Tuning the norms."""

from dataclasses import dataclass

from torch import nn

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS


def train_norms(backbone: Backbone) -> None:
    """Let scale and shift of every norm train."""
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.requires_grad_(True)


@METHODS.register("norm")
@dataclass
class Norm(Method):
    """Only the norms train, each with its scale and shift (Basu et al., 2024; Zhao et al., 2024)."""

    learning_rate_factor = 4.0

    def adapt(self, backbone: Backbone) -> None:
        """Let the two norms of every block train, 0.10 M for a ViT-L."""
        train_norms(backbone)
