"""The processes that train one run together: who is who, what they agree on, and what they share of a batch.

A run of one process needs none of it: every function then returns what it was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from spectral_tl_bench.utils.errors import EndedByTheFirstError
from spectral_tl_bench.utils.log_filters import suppress_third_party_messages
from spectral_tl_bench.utils.runtime import RuntimeOptions

T = TypeVar("T")

# What one process does alone (digests, pictures, maps) may take hours; the others wait.
_PATIENCE = timedelta(days=7)


class _Control:
    """A second group over the processor: what is agreed on there makes no accelerator wait."""

    group: Any = None


@contextlib.contextmanager
def process_group(options: RuntimeOptions) -> Iterator[None]:
    """Be one of the processes of a run inside the block.

    Lightning finds out from the environment (Slurm, torchrun, or what :mod:`spectral_tl_bench.runs.launch` sets) which.
    """
    from lightning import Fabric

    with suppress_third_party_messages():
        Fabric(**options.trainer_arguments).launch()
    _Control.group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield
        # Who ends first would take the others' connection along.
        dist.barrier(group=_Control.group)
    finally:
        _Control.group = None
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes there are."""
    return 1 if _Control.group is None else dist.get_world_size()


def rank() -> int:
    """Which one this is, from 0."""
    return 0 if _Control.group is None else dist.get_rank()


def is_distributed() -> bool:
    """Whether this process belongs to a run that several share."""
    return _Control.group is not None


def is_rank_zero() -> bool:
    """Whether this is the one that writes and prints."""
    return rank() == 0


def broadcast(value: T) -> T:
    """What the first process has."""
    if _Control.group is None:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0, group=_Control.group)
    return held[0]


def gather(value: T) -> list[T]:
    """What every process has, in their order."""
    if _Control.group is None:
        return [value]
    held: list[Any] = [None] * world_size()
    dist.all_gather_object(held, value, group=_Control.group)
    return held


def maxima(*numbers: int) -> tuple[int, ...]:
    """The largest of each of some numbers among all processes."""
    if _Control.group is None:
        return numbers
    held = torch.tensor(numbers)
    dist.all_reduce(held, dist.ReduceOp.MAX, group=_Control.group)
    return tuple(int(number) for number in held)


def rank_zero_result(function: Callable[[], T]) -> T:
    """Do something in the first process alone and tell the others what came of it.

    Raises:
        EndedByTheFirstError: In the others, if it failed in the first one, where the error itself is raised.
    """
    if _Control.group is None:
        return function()
    if not is_rank_zero():
        ended, value = broadcast((0, None))
        if ended:
            raise EndedByTheFirstError(ended)
        return value  # type: ignore[return-value]
    try:
        mine = function()
    except BaseException as error:
        broadcast((getattr(error, "exit_status", 1), None))
        raise
    broadcast((0, mine))
    return mine


def rank_zero_first(function: Callable[[], T]) -> T:
    """Do something in the first process, then in the others: they find ready what it has left on disk.

    Raises:
        EndedByTheFirstError: In the others, if it failed in the first one.
    """
    held: list[T] = []
    rank_zero_result(lambda: held.append(function()) if is_rank_zero() else None)
    return held[0] if held else function()


def whole_batch(own: Tensor) -> Tensor:
    """One process's share of a batch to the whole batch, in the order of the processes.

    Gradients reach this process's share alone: a loss of the whole batch has, in each process, the gradient of its
    own share.

    Args:
        own: b x ..., the same shape in every process.
    """
    if _Control.group is None:
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    parts[rank()] = own
    return torch.cat(parts)


def mean(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes, without gradient."""
    if _Control.group is None:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        summed = value.contiguous().clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process's result depends on every process's part.
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        return summed


def sum_with_gradient(value: Tensor) -> Tensor:
    """Sum of a tensor over the processes, with gradient to all of them."""
    return value if _Control.group is None else cast(Tensor, _Total.apply(value))


def local_rows(whole: Tensor, length: int) -> Tensor:
    """This process's rows of what every process has drawn for the whole batch.

    Args:
        whole: One row for each of all processes' samples.
        length: Rows of each process.
    """
    return whole[rank() * length : (rank() + 1) * length]


def empty_whole_batch(own: Tensor) -> Tensor:
    """A tensor for the whole batch, laid out in memory as this process's share of it is.

    Random numbers are drawn in the order of memory: with the same layout they are those of a single process.
    """
    layout = sorted(range(own.dim()), key=own.stride, reverse=True)
    size = (len(own) * world_size(), *own.shape[1:])
    return torch.empty_permuted(size, layout, dtype=own.dtype, device=own.device)


def randn_like(own: Tensor) -> Tensor:
    """Normal noise for this process's share of a batch, drawn for the whole batch."""
    return (
        torch.randn_like(own)
        if _Control.group is None
        else local_rows(torch.randn_like(empty_whole_batch(own)), len(own))
    )
