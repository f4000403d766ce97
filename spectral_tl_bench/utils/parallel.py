"""A map over several processes, for work that outweighs their start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST_PROCESSES = 4
"""Each takes a quarter of a GB."""


def parallel_map(function: Callable[[T], R], items: Sequence[T], most: int, batch_size: int = 1) -> Iterator[R]:
    """Apply a function to items.

    Args:
        function: A function of a module, which other processes can import.
        items: The items.
        most: Most processes. Below two, this process does all of it, item by item as results are taken; otherwise the
            others start now, and this process may do something else.
        batch_size: Items that a process takes at a time.

    Returns:
        The results in the order of the items.
    """
    if most < 2:
        return map(function, items)
    from joblib import Parallel, cpu_count, delayed

    parallel = Parallel(n_jobs=min(cpu_count(), _MOST_PROCESSES, most), batch_size=batch_size, return_as="generator")
    return iter(parallel(delayed(function)(item) for item in items))
