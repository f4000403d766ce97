"""SoMA: training the minor singular components of the weights."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import METHODS

from .insertion import LINEAR_LAYERS, QKV, replace_in_blocks


class MinorComponents(nn.Module):
    """A linear layer whose smallest singular components train: (W - B A) x + B A x + b.

    W = U S V' gives A = sqrt(S) V' and B = U sqrt(S), both cut to the ``rank`` smallest singular values. W - B A is
    frozen; A, B and b train. A layer of several matrices under one another, such as queries, keys and values, is
    decomposed matrix by matrix.
    """

    def __init__(self, linear: nn.Linear, rank: int, matrices: int) -> None:
        """Take ``rank`` components out of each of the ``matrices`` in the weight of ``linear``.

        Raises:
            SpectralBenchError: If a matrix has fewer singular values.
        """
        super().__init__()
        smaller = min(linear.out_features // matrices, linear.in_features)
        if rank > smaller:
            raise SpectralBenchError(
                f"soma: rank={rank} is more than the {smaller} singular values of a layer; lower rank"
            )
        self.linear = linear
        with torch.no_grad():
            u, s, vh = torch.linalg.svd(linear.weight.unflatten(0, (matrices, -1)), full_matrices=False)
            root = s[:, -rank:].sqrt()
            self.down = nn.Parameter(root.unsqueeze(-1) * vh[:, -rank:])
            self.up = nn.Parameter(u[..., -rank:] * root.unsqueeze(1))
            # In place: it stays the pretrained parameter, which a run does not save but derives again.
            linear.weight.sub_((self.up @ self.down).flatten(0, 1))
        if linear.bias is not None:
            linear.bias.requires_grad = True

    def forward(self, x: Tensor) -> Tensor:
        """Map B x N x in tokens to B x N x out."""
        matrices, rank, _ = self.down.shape
        inner = F.linear(x, self.down.flatten(0, 1)).unflatten(-1, (matrices, rank))
        out: Tensor = self.linear(x) + torch.einsum("bnmr,mor->bnmo", inner, self.up).flatten(2)
        return out


@METHODS.register("soma")
@dataclass
class SoMA(Method):
    """The smallest singular components of the weights train in the later two thirds of blocks (Yun et al., CVPR 2025).

    Section 3 of the paper, with the biases of the same layers, as in the authors' code. Queries, keys and values are
    decomposed apart. Starts from the pretrained function up to rounding. 4.87 M parameters on a ViT-L at rank 16.
    """

    start_tolerance = 1e-4
    learning_rate_factor = 4.0

    rank: Annotated[int, Field(ge=1)] = 16

    def adapt(self, backbone: Backbone) -> None:
        """Split the linear layers; the first third of blocks, which holds the most general features, stays frozen."""
        first = len(backbone.blocks) // 3
        for name in LINEAR_LAYERS:
            matrices = 3 if name == QKV else 1
            replace_in_blocks(backbone, [name], partial(MinorComponents, rank=self.rank, matrices=matrices), first)
