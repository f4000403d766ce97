"""Work that several processes share where there is enough of it for their start to pay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST_PROCESSES = 4
"""Each takes a quarter of a GB."""


def side_by_side(function: Callable[[T], R], items: Sequence[T], most: int, at_once: int = 1) -> Iterator[R]:
    """Apply a function to items.

    Args:
        function: Of a module, so that another process can have it.
        items: What it is applied to.
        most: Processes that are worth their start; with fewer than two this one does it all, when asked for a result.
            Otherwise others begin now, while this one may do something else.
        at_once: Items that a process takes at a time.

    Returns:
        The results in the order of the items.
    """
    if most < 2:
        return map(function, items)
    from joblib import Parallel, cpu_count, delayed

    parallel = Parallel(n_jobs=min(cpu_count(), _MOST_PROCESSES, most), batch_size=at_once, return_as="generator")
    return iter(parallel(delayed(function)(item) for item in items))
