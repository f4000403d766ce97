import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from spectral_tl_bench.datamodules.samplers import BatchShares, WindowSampler, class_weights, domain_weights
from spectral_tl_bench.splits.assignment import held_out_tiles
from spectral_tl_bench.splits.few_labels import shares

SIZES = np.full(20, 100)


def sampler(**options):
    defaults = {"size": 32, "count": 50, "seed": 3}
    return WindowSampler(range(5, 15), SIZES, SIZES, **(defaults | options))


def test_same_seed_draws_the_same_windows_and_another_does_not():
    assert list(sampler()) == list(sampler())
    assert list(sampler()) != list(sampler(seed=4))


def test_every_tile_comes_once_before_any_comes_again():
    keys = list(sampler(count=25))
    assert sorted(position for position, _, _ in keys[:10]) == list(range(5, 15))
    assert sorted(position for position, _, _ in keys[10:20]) == list(range(5, 15))


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 11.0)])
@pytest.mark.parametrize("start", [0, 1, 10, 37, 50])
def test_a_draw_may_begin_anywhere(start, weights):
    assert list(sampler(weights=weights, start=start)) == list(sampler(weights=weights))[start:]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("keys", [0, 1, 7, 12])
def test_every_key_goes_to_one_process_and_all_have_as_many_batches(keys, processes):
    shares = [BatchShares(range(keys), 2, rank=rank, processes=processes) for rank in range(processes)]
    batches = [list(share) for share in shares]
    assert {len(own) for own in batches} == {len(shares[0])}
    # One process after the other, batch by batch, is the order of a single process.
    assert [key for batch in zip(*batches, strict=True) for own in batch for key in own] == list(range(keys))


def test_windows_lie_inside_their_tile():
    assert all(0 <= top <= 68 and 0 <= left <= 68 for _, top, left in sampler(count=200))


def test_tiles_smaller_than_the_window_start_at_their_corner():
    assert {key[1:] for key in sampler(size=128)} == {(0, 0)}


def test_domain_weights_give_domains_equal_shares():
    domains = pd.Series(["large"] * 9 + ["small"])
    drawn = Counter(position for position, _, _ in sampler(weights=domain_weights(domains), count=2000))
    assert 0.45 < drawn[14] / 2000 < 0.55


def test_class_weights_prefer_tiles_with_rare_classes():
    weights = class_weights(np.array([[100, 0], [50, 50], [100, 0], [0, 0]]))
    assert weights[1] > weights[0] == weights[2]
    assert weights[3] == weights[0]


FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.5, 0.99)


def test_few_labels_take_the_same_share_of_every_domain():
    domains = pd.Series(["a"] * 40 + ["b"] * 20 + ["c"] * 2)
    for fraction in FRACTIONS:
        parts = pd.Series(shares(domains, fraction, seed=1)).groupby(domains).sum()
        assert parts.to_dict() == pytest.approx({"a": 40 * fraction, "b": 20 * fraction, "c": 2 * fraction})
    assert shares(domains, 0.1, seed=1).tolist() != shares(domains, 0.1, seed=2).tolist()


def test_the_labels_of_a_smaller_share_are_among_those_of_a_larger_one():
    domains = pd.Series(["a"] * 40 + ["b"] * 7)
    for small, large in itertools.pairwise(FRACTIONS):
        assert (shares(domains, small, seed=0) <= shares(domains, large, seed=0)).all()


@pytest.fixture
def index() -> pd.DataFrame:
    rows = [(f"{city}{i}", city, f"{city}-{i // 4}") for city in ("x", "y") for i in range(40)]
    return pd.DataFrame(rows, columns=["tile", "city", "block"], index=range(100, 180))


def test_held_out_tiles_are_whole_blocks_of_every_domain(index):
    held = held_out_tiles(index, "city", 0.1)
    assert index[held].groupby("city").size().to_dict() == {"x": 4, "y": 4}
    assert not set(index[held]["block"]) & set(index[~held]["block"])


def test_a_domain_of_one_block_is_never_held_out_whole(index):
    index["block"] = index["city"]
    assert not held_out_tiles(index, "city", 0.1).any()


def test_held_out_tiles_do_not_depend_on_the_order_of_the_rows(index):
    shuffled = index.sample(frac=1, random_state=0)
    assert set(index[held_out_tiles(index, "city", 0.2)]["tile"]) == set(
        shuffled[held_out_tiles(shuffled, "city", 0.2)]["tile"]
    )
