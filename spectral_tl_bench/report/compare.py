"""Two methods against one another, wherever both ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from spectral_tl_bench.config.protocols import TRANSFERS
from spectral_tl_bench.report.names import counterpart, find, labels, titles
from spectral_tl_bench.report.statistics import holm, paired
from spectral_tl_bench.report.summary import Group, Summary, grouped
from spectral_tl_bench.report.transfers import Difference, difference, same_but_protocol_and_seed
from spectral_tl_bench.utils.errors import RecordError


@dataclass(frozen=True)
class Comparison:
    """One method minus another on tiles that are simulated, or on real ones.

    Attributes:
        names: What the two are called.
        simulated: Whether the tiles are simulated.
        table: A row per protocol and pair of rows: protocol, scoring, backbone, weights, both scores and their
            difference over the seeds that both have, low, high, seeds, p_value and p_holm, corrected over the table. In
            percent.
        over_transfers: The difference over all transfers, by the first one's backbone and weights, for those with which
            both ran all of them.
    """

    names: tuple[str, str]
    simulated: bool
    table: pd.DataFrame
    over_transfers: dict[tuple[str, str], Difference]


def _pairs(first: Sequence[Group], second: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Rows of one protocol that differ in the method alone; the only row of each is a pair whatever they differ in."""
    if len(first) == len(second) == 1:
        alike = first[0].runs[0].tiles == second[0].runs[0].tiles and first[0].identity != second[0].identity
        return [(first[0], second[0])] if alike else []
    found = [(group, counterpart(group, second)) for group in first]
    return [(group, other) for group, other in found if other is not None]


def _section(group: Group) -> tuple[bool, str, str]:
    return group.spec.simulated, group.spec.protocol, group.spec.training.scoring


def _named(name: str, groups: Sequence[Group], names: Sequence[str]) -> list[Group]:
    found = find(name, groups, names)
    if not found:
        shown = titles([group.spec for group in groups], names)
        found = [
            g for g, title in zip(groups, shown, strict=True) if name in (title, same_but_protocol_and_seed(g.spec))
        ]
    if not found:
        raise RecordError(f"no run of {name}; there are: {', '.join(sorted(set(names)))}")
    return found


def compare(runs: Sequence[Summary], first: str, second: str) -> list[Comparison]:
    """Compare two methods by seed on every protocol that both ran.

    Args:
        runs: Real and simulated ones, which are never compared.
        first: A method, a row's name with its options, or the id of a row of a board or of ``transfers.csv``.
        second: The other. Two ids may differ in anything, such as the weights.

    Returns:
        Real tiles first; a comparison for each of the two that has anything to compare.

    Raises:
        RecordError: If there is no run of one of them, or they have no tiles and seeds in common.
    """
    groups = grouped(runs)
    names = labels([group.spec for group in groups])
    one, other = (_named(name, groups, names) for name in (first, second))
    result = []
    for simulated in (False, True):
        rows, pairs = [], []
        sections = sorted({_section(group)[1:] for group in one if group.spec.simulated == simulated})
        for protocol, scoring in sections:
            section = (simulated, protocol, scoring)
            here = [[group for group in side if _section(group) == section] for side in (one, other)]
            for a, b in _pairs(*here):
                found = paired(a.by_seed, b.by_seed)
                if not found.seeds:
                    continue
                pairs.append((a, b))
                common = sorted(set(a.by_seed) & set(b.by_seed))
                rows.append(
                    {
                        "protocol": protocol,
                        "scoring": scoring,
                        "backbone": a.spec.backbone,
                        "weights": a.spec.weights,
                        "first": fmean(a.by_seed[seed] for seed in common),
                        "second": fmean(b.by_seed[seed] for seed in common),
                        "difference": found.difference,
                        "low": found.interval.low,
                        "high": found.interval.high,
                        "seeds": found.seeds,
                        "p_value": found.p_value,
                    }
                )
        if rows:
            table = pd.DataFrame(rows)
            table["p_holm"] = holm(table["p_value"].tolist())
            result.append(Comparison((first, second), simulated, table, _over_transfers(pairs)))
    if not result:
        raise RecordError(
            f"{first} and {second} have no protocol, tiles and seed in common; run both with the same seeds"
        )
    return result


def _over_transfers(pairs: Sequence[tuple[Group, Group]]) -> dict[tuple[str, str], Difference]:
    found: dict[tuple[str, str], dict[str, list[tuple[Group, Group]]]] = {}
    for a, b in pairs:
        if a.spec.training.scoring == "native" and a.spec.protocol in TRANSFERS:
            by_protocol = found.setdefault((a.spec.backbone, a.spec.weights), {})
            by_protocol.setdefault(a.spec.protocol, []).append((a, b))
    result = {}
    for configuration, by_protocol in found.items():
        # Of rows that differ in something else too, no one stands for the others.
        if len(by_protocol) == len(TRANSFERS) and all(len(here) == 1 for here in by_protocol.values()):
            first, second = zip(*(by_protocol[name][0] for name in TRANSFERS), strict=True)
            result[configuration] = difference(first, second)
    return result
