"""Layers that see the whole batch, or draw for it, where several processes have a share of it each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spectral_tl_bench.utils import distributed


@contextlib.contextmanager
def synchronized_layers(module: nn.Module) -> Iterator[None]:
    """Let the layers of a module do in training what they would do in a single process.

    Batch norms take mean and variance of the whole batch, dropout draws for it. torch's own ``SyncBatchNorm`` does the
    former on accelerators alone, and replaces modules that checkpoints know by name.
    """
    changed: list[nn.Module] = []
    for part in module.modules() if distributed.is_distributed() else ():
        if isinstance(part, _BatchNorm):
            vars(part)["forward"] = partial(_batch_norm, part)
            changed.append(part)
        elif isinstance(part, _DropoutNd) and part.p > 0:
            vars(part)["forward"] = partial(_dropout, part)
            changed.append(part)
    try:
        yield
    finally:
        for part in changed:
            del vars(part)["forward"]


def _dropout(layer: _DropoutNd, x: Tensor) -> Tensor:
    """Drop what a single process would drop of these samples: elements, or whole channels."""
    if not layer.training:
        return x
    one = x
    if not isinstance(layer, nn.Dropout):  # whole channels
        for dim in range(2, x.dim()):
            one = one.narrow(dim, 0, 1)
    kept = F.dropout(torch.ones_like(distributed.empty_whole_batch(one)), layer.p)
    return x * distributed.local_rows(kept, len(x))


def _batch_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise B x C x ... by the mean and variance of all processes' B (Ioffe and Szegedy, 2015, algorithm 1)."""
    if not norm.training and norm.track_running_stats:
        return type(norm).forward(norm, x)
    wide = x.float()
    rest = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    pixels = distributed.world_size() * x.numel() // x.shape[1]
    mean: Tensor = distributed.sum_with_gradient(wide.sum(dim=rest)) / pixels
    centred = wide - mean.view(shape)
    # From centred values: the mean of squares less the square of the mean loses digits.
    variance: Tensor = distributed.sum_with_gradient(centred.square().sum(dim=rest)) / pixels
    if norm.track_running_stats:
        _remember(norm, mean.detach(), variance.detach() * pixels / max(1, pixels - 1))
    out = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        out = out * norm.weight.view(shape) + norm.bias.view(shape)
    return out.to(x.dtype)


@torch.no_grad()
def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked or 1)
    for running, now in ((norm.running_mean, mean), (norm.running_var, variance)):
        if running is not None:
            running.lerp_(now.to(running.dtype), momentum)
