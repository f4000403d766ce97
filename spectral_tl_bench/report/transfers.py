"""One figure over all transfers: who adapts best whatever the sensor, the region and the season."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from spectral_tl_bench.config.protocols import TRANSFERS
from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.report.board import comparators, described
from spectral_tl_bench.report.names import counterpart, find, labels, titles
from spectral_tl_bench.report.statistics import (
    Interval,
    holm,
    places_interval,
    places_p_value,
    seeds_interval,
    spread,
)
from spectral_tl_bench.report.summary import Group, Summary

_OF_A_PROTOCOL = {"protocol": "-", "protocol_digest": "-", "dataset": "-", "data": "-", "split": "-", "seed": 0}


def same_but_protocol_and_seed(spec: RunSpec) -> str:
    """Digest of what is adapted and how, whatever it is trained on."""
    return spec.model_copy(update=_OF_A_PROTOCOL).digest


@dataclass(frozen=True)
class TransferRow:
    """One configuration on the transfers.

    Attributes:
        identity: Digest of what is adapted and how.
        runs: By transfer and seed.
    """

    identity: str
    runs: Mapping[str, Mapping[int, Summary]]

    @property
    def spec(self) -> RunSpec:
        """What was run, on the first of the transfers with the first seed."""
        return self.groups[0].spec

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that some transfer has."""
        return tuple(sorted({seed for by_seed in self.runs.values() for seed in by_seed}))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The rows on the boards that it is made of, by transfer."""
        return tuple(
            Group(tuple(run for _, run in sorted(by_seed.items()))) for _, by_seed in sorted(self.runs.items())
        )

    def missing(self) -> str:
        """What a mean over all transfers with the same seeds lacks, as text; empty where it lacks nothing."""
        lacks: dict[str, list[str]] = defaultdict(list)
        for name in TRANSFERS:
            seeds = [seed for seed in self.seeds if seed not in self.runs.get(name, {})]
            if seeds:
                what = "every seed" if len(seeds) == len(self.seeds) else f"seed {', '.join(map(str, seeds))}"
                lacks[what].append(name)
        return "; ".join(f"{', '.join(names)}: {what}" for what, names in lacks.items())

    def figures(self, of_source: bool = False) -> np.ndarray:
        """Headline scores, seeds x transfers."""
        cells = [[self.runs[name][seed] for name in TRANSFERS] for seed in self.seeds]
        return np.array([[run.source if of_source else run.miou for run in row] for row in cells])


def transfer_rows(runs: Iterable[Summary]) -> list[TransferRow]:
    """Put the runs on transfers together by what is adapted and how, in the order of its digest."""
    found: dict[str, dict[str, dict[int, Summary]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        if run.spec.protocol in TRANSFERS:
            found[same_but_protocol_and_seed(run.spec)][run.spec.protocol][run.spec.seed] = run
    return [TransferRow(identity, runs) for identity, runs in sorted(found.items())]


@dataclass(frozen=True)
class Difference:
    """First method minus second over all transfers.

    Attributes:
        mean: Over the seeds that both have, and all transfers.
        interval: Over seeds and transfers alike.
        p_value: Of the mean being 0, over seeds and transfers alike.
        seeds: How many both have.
        agreeing: In how many transfers the mean over seeds has the sign of the mean over all.
        transfers: How many transfers there are.
    """

    mean: float = float("nan")
    interval: Interval = field(default_factory=Interval)
    p_value: float = float("nan")
    seeds: int = 0
    agreeing: int = 0
    transfers: int = 0


def difference(first: Sequence[Group], second: Sequence[Group]) -> Difference:
    """Compare two methods over transfers.

    Args:
        first: Rows of one method, one a transfer.
        second: Rows of the other on the same transfers, in the same order.
    """
    seeds = sorted(set.intersection(*(set(group.seeds) for group in (*first, *second))))
    if not seeds:
        return Difference()
    values = np.array(
        [[a.by_seed[seed] - b.by_seed[seed] for a, b in zip(first, second, strict=True)] for seed in seeds]
    )
    mean = float(values.mean())
    agreeing = int((np.sign(values.mean(axis=0)) == np.sign(mean)).sum())
    return Difference(mean, places_interval(values), places_p_value(values), len(seeds), agreeing, values.shape[1])


def _against(row: TransferRow, candidates: Sequence[TransferRow]) -> Difference:
    others = []
    for group in row.groups:
        rivals = [c.groups[TRANSFERS.index(group.spec.protocol)] for c in candidates]
        others.append(counterpart(group, rivals))
    if any(other is None for other in others):
        return Difference()
    return difference(row.groups, [other for other in others if other is not None])


def over_transfers(runs: Iterable[Summary], against: Iterable[str] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average methods over all transfers.

    Args:
        runs: Runs, all simulated or none.
        against: Methods that the rows are compared with besides the fixed comparator.

    Returns:
        A row for each configuration that ran on every transfer with the same seeds, by falling mean: ``mean`` and
        ``sd`` over the seeds, each averaged over the transfers, ``source_mean`` of the held-out source tiles, a column
        per transfer, and the differences to each comparator, seeds and transfers both taken as drawn at random. All in
        percent. And a row for each that ran on some of them: what it lacks.
    """
    found = transfer_rows(runs)
    specs = [row.spec for row in found]
    names = labels(specs)
    shown = titles(specs, names)
    complete = [not row.missing() for row in found]
    whole = [row for row, is_complete in zip(found, complete, strict=True) if is_complete]
    whole_names = [name for name, is_complete in zip(names, complete, strict=True) if is_complete]
    rows = [_row(row, name) for row, name, is_complete in zip(found, shown, complete, strict=True) if is_complete]
    frame = pd.DataFrame(rows)
    if rows:
        firsts = [row.groups[0] for row in whole]
        for other in comparators(against):
            chosen = [whole[firsts.index(group)] for group in find(other, firsts, whole_names)]
            differences = [_against(row, chosen) for row in whole]
            frame = pd.concat([frame, pd.DataFrame(_columns(other, differences))], axis=1)
        frame = frame.sort_values(["mean", "id"], ascending=[False, True], ignore_index=True)
    lacking = pd.DataFrame(
        [
            {
                "row": name,
                **described(row.spec),
                "transfers": len(row.runs),
                "missing": row.missing(),
                "id": row.identity,
            }
            for row, name, is_complete in zip(found, shown, complete, strict=True)
            if not is_complete
        ]
    )
    return frame, lacking


def _row(row: TransferRow, name: str) -> dict[str, Any]:
    target = row.figures()
    by_seed = target.mean(axis=1).tolist()
    means, interval = spread(by_seed), seeds_interval(by_seed)
    return {
        "row": name,
        **described(row.spec),
        "seeds": means.count,
        "seed_list": " ".join(map(str, row.seeds)),
        "mean": means.mean,
        "sd": means.deviation,
        "low": interval.low,
        "high": interval.high,
        "source_mean": float(row.figures(of_source=True).mean()),
        **dict(zip(TRANSFERS, target.mean(axis=0), strict=True)),
        "id": row.identity,
    }


def _columns(against: str, differences: Sequence[Difference]) -> dict[str, list[Any]]:
    return {
        f"vs_{against}": [d.mean for d in differences],
        f"vs_{against}_low": [d.interval.low for d in differences],
        f"vs_{against}_high": [d.interval.high for d in differences],
        f"vs_{against}_seeds": [d.seeds for d in differences],
        f"vs_{against}_agreeing": [d.agreeing for d in differences],
        f"vs_{against}_p": [d.p_value for d in differences],
        f"vs_{against}_p_holm": holm([d.p_value for d in differences]),
    }
