"""The processes that train one run together: who is who, what they agree on, and what they share of a batch.

A run of one process needs none of it: every function then returns what it was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from spectral_tl_bench.utils.errors import EndedByTheFirstError, SpectralBenchError
from spectral_tl_bench.utils.log_filters import quiet

T = TypeVar("T")

STRATEGIES = {"auto": "ddp_find_unused_parameters_true", "ddp": "ddp"}
"""Lightning's names of the ways to share a run, by ours.

Those that shard or replace parameters are left out: methods, checkpoints and records know parameters by identity and
name, and what a method trains is small.
"""

# What one process does alone (digests, pictures, maps) may take hours; the others wait.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Hardware:
    """Where a run is trained; none of it changes the result but for rounding.

    Attributes:
        device: "auto", "cpu" or "cuda".
        devices: On each node.
        num_nodes: Nodes.
        strategy: A name of :data:`STRATEGIES`; it matters where there are several processes.
    """

    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"

    @property
    def processes(self) -> int:
        """Processes in all, one a device."""
        return self.devices * self.num_nodes

    @property
    def for_lightning(self) -> dict[str, Any]:
        """Arguments of Lightning's ``Trainer`` and ``Fabric``."""
        return {
            "accelerator": {"cuda": "gpu"}.get(self.device, self.device),
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": "auto" if self.processes == 1 else STRATEGIES[self.strategy],
        }


class _Control:
    """A second group over the processor: what is agreed on there makes no accelerator wait."""

    group: Any = None


@contextlib.contextmanager
def joined(hardware: Hardware) -> Iterator[None]:
    """Be one of the processes of a run inside the block.

    Lightning finds out from the environment (Slurm, torchrun, or what :mod:`spectral_tl_bench.runs.launch` sets) which.
    """
    from lightning import Fabric

    with quiet():
        Fabric(**hardware.for_lightning).launch()
    _Control.group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield
        # Who ends first would take the others' connection along.
        dist.barrier(group=_Control.group)
    finally:
        _Control.group = None
        dist.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return 1 if _Control.group is None else dist.get_world_size()


def rank() -> int:
    """Which one this is, from 0."""
    return 0 if _Control.group is None else dist.get_rank()


def are_together() -> bool:
    """Whether this process belongs to a run that several share."""
    return _Control.group is not None


def is_first() -> bool:
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
    held: list[Any] = [None] * count()
    dist.all_gather_object(held, value, group=_Control.group)
    return held


def largest(*numbers: int) -> tuple[int, ...]:
    """The largest of each of some numbers among all processes."""
    if _Control.group is None:
        return numbers
    held = torch.tensor(numbers)
    dist.all_reduce(held, dist.ReduceOp.MAX, group=_Control.group)
    return tuple(int(number) for number in held)


def decided(function: Callable[[], T]) -> T:
    """Do something in the first process alone and tell the others what came of it.

    Raises:
        EndedByTheFirstError: In the others, if it failed in the first one, where the error itself is raised.
    """
    if _Control.group is None:
        return function()
    if not is_first():
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


def in_turn(function: Callable[[], T]) -> T:
    """Do something in the first process, then in the others: they find ready what it has left on disk.

    Raises:
        EndedByTheFirstError: In the others, if it failed in the first one.
    """
    held: list[T] = []
    decided(lambda: held.append(function()) if is_first() else None)
    return held[0] if held else function()


def over_all(own: Tensor) -> Tensor:
    """One process's share of a batch to the whole batch, in the order of the processes.

    Gradients reach this process's share alone: a loss of the whole batch has, in each process, the gradient of its
    own share.

    Args:
        own: b x ..., the same shape in every process.
    """
    if _Control.group is None:
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(count())]
    dist.all_gather(parts, own.detach().contiguous())
    parts[rank()] = own
    return torch.cat(parts)


def mean(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes, without gradient."""
    if _Control.group is None:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / count()


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


def total(value: Tensor) -> Tensor:
    """Sum of a tensor over the processes, with gradient to all of them."""
    return value if _Control.group is None else cast(Tensor, _Total.apply(value))


def share(whole: Tensor, length: int) -> Tensor:
    """This process's rows of what every process has drawn for the whole batch.

    Args:
        whole: One row for each of all processes' samples.
        length: Rows of each process.
    """
    return whole[rank() * length : (rank() + 1) * length]


def empty_whole(own: Tensor) -> Tensor:
    """A tensor for the whole batch, laid out in memory as this process's share of it is.

    Random numbers are drawn in the order of memory: with the same layout they are those of a single process.
    """
    layout = sorted(range(own.dim()), key=own.stride, reverse=True)
    size = (len(own) * count(), *own.shape[1:])
    return torch.empty_permuted(size, layout, dtype=own.dtype, device=own.device)


def randn_like(own: Tensor) -> Tensor:
    """Normal noise for this process's share of a batch, drawn for the whole batch."""
    return torch.randn_like(own) if _Control.group is None else share(torch.randn_like(empty_whole(own)), len(own))


def pick_device(name: str) -> torch.device:
    """The device that a user means: "auto" takes the GPU where there is one.

    Raises:
        SpectralBenchError: If it is not there.
    """
    there = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not there):
        raise SpectralBenchError(f"there is no device {name} here; --device takes auto, cpu{' or cuda' * there}")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
