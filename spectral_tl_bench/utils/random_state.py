"""Random numbers as functions of the seed and a place in training: a run can go on anywhere with the same ones."""

from __future__ import annotations

import random

import numpy as np
import torch


def derived_seed(*numbers: int) -> int:
    """A seed for one place, from the run's seed and what numbers the place; unrelated to those of other places.

    Args:
        numbers: The run's seed, then for example the pass over the tiles. None may be negative.

    Returns:
        In [0, 2^64).
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def seed_step(seed: int, step: int) -> None:
    """Seed whatever a training step draws: augmentation, dropout, masks, noise.

    Args:
        seed: Of the run.
        step: Batch of the stage, from 0.
    """
    # The processes of a distributed run draw alike: for the whole batch, of which each takes its share.
    derived = derived_seed(seed, step, 0)
    torch.manual_seed(derived)
    np.random.seed(derived % 2**32)  # what a method may draw from
    random.seed(derived)
