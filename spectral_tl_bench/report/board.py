"""One board: the rows of a protocol file, what each scores, and what it can be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records.scores import HEADLINE, scores
from spectral_tl_bench.report.names import (
    COMPARATOR,
    REFERENCE_BASELINE,
    assignments,
    changes,
    counterpart,
    find,
    labels,
    titles,
)
from spectral_tl_bench.report.statistics import (
    Interval,
    Paired,
    effective_robustness,
    holm,
    paired,
    places_interval,
    seeds_interval,
    spread,
    spreads,
)
from spectral_tl_bench.report.summary import Group, Summary, grouped

_NOTHING = Paired(float("nan"), Interval(), float("nan"), 0)


@dataclass(frozen=True)
class Board:
    """The rows of one protocol file, of simulated runs or of real ones.

    Attributes:
        rows: One a specification, seeds averaged; sorted by protocol, scoring and falling mIoU. Scores in percent.
        details: Long: the headline score by target sub-domain, and the IoU by class, of every row.
        titles: What each protocol asks.
        against: Methods that the rows are compared with.
    """

    rows: pd.DataFrame
    details: pd.DataFrame
    titles: dict[str, str]
    against: tuple[str, ...]

    @property
    def simulated(self) -> bool:
        """Whether the tiles were."""
        return bool((self.rows["data"] == "simulated").any())


def described(spec: RunSpec) -> dict[str, Any]:
    """What was run, as columns."""
    return {
        "method": spec.method_name,
        "options": assignments(spec.method_options),
        "backbone": spec.backbone,
        "weights": spec.weights,
        "preset": spec.preset,
        "changes": changes(spec),
    }


def _row(group: Group, name: str) -> dict[str, Any]:
    """Figures of one row that need no other row; scores in percent."""
    runs, spec = group.runs, group.spec
    target = spread([run.miou for run in runs])
    over_seeds = seeds_interval([run.miou for run in runs])
    places, by_place = group.subdomains()
    elsewhere = places_interval(by_place)
    means = pd.Series(by_place.mean(axis=0), index=list(places)).dropna()
    source = float(np.mean([run.source for run in runs]))
    return {
        "data": "simulated" if spec.simulated else "real",
        "protocol": spec.protocol,
        "row": name,
        **described(spec),
        "scoring": spec.training.scoring,
        "selection": spec.training.selection,
        "seeds": target.count,
        "seed_list": " ".join(map(str, group.seeds)),
        "miou": target.mean,
        "sd": target.deviation,
        "low": over_seeds.low,
        "high": over_seeds.high,
        "below_yardstick": "",
        "subdomains": len(places),
        "subdomain_mean": means.mean() if len(means) == len(places) else np.nan,
        "elsewhere_low": elsewhere.low,
        "elsewhere_high": elsewhere.high,
        "worst_subdomain": str(means.idxmin()) if len(means) else "",
        "worst_miou": means.min() if len(means) else np.nan,
        "source_miou": source,
        "gap": source - target.mean,
        "effective_robustness": np.nan,
        "last_miou": float(np.mean([run.last for run in runs])),
        **{
            score.name: float(np.mean([run.scores[score.name] for run in runs]))
            for score in scores()
            if score is not HEADLINE
        },
        "trainable_m": runs[0].record.parameters.trainable / 1e6,
        "trainable_with_decoder_m": runs[0].record.parameters_with_decoder.trainable / 1e6,
        "id": group.identity,
    }


_DETAILS = ("data", "protocol", "scoring", "row", "id", "kind", "name", "percent", "sd")


def _details(group: Group, name: str) -> list[tuple[Any, ...]]:
    """Rows of the columns ``_DETAILS``."""
    spec = group.spec
    head = ("simulated" if spec.simulated else "real", spec.protocol, spec.training.scoring, name, group.identity)
    subdomains, by_subdomain = group.subdomains()
    classes = [c.name for c in group.runs[0].record.classes]
    by_class = np.array([[run.classes.get(what, np.nan) for what in classes] for run in group.runs])
    rows: list[tuple[Any, ...]] = []
    for kind, names, values in (("subdomain", subdomains, by_subdomain), ("class", classes, by_class)):
        found = spreads(values)
        rows += [(*head, kind, *figures) for figures in zip(names, *found, strict=True)]
    return rows


def compared(groups: Sequence[Group], names: Sequence[str], against: str) -> list[Paired]:
    """Each row minus its counterpart among the rows of one method; nothing where it has none."""
    candidates = find(against, groups, names)
    result = []
    for group in groups:
        other = counterpart(group, [c for c in candidates if _section(c) == _section(group)])
        result.append(_NOTHING if other is None else paired(group.by_seed, other.by_seed))
    return result


def comparison_columns(against: str, differences: Sequence[Paired]) -> dict[str, list[Any]]:
    """Columns of a comparison, corrected over all its rows."""
    return {
        f"vs_{against}": [d.difference for d in differences],
        f"vs_{against}_low": [d.interval.low for d in differences],
        f"vs_{against}_high": [d.interval.high for d in differences],
        f"vs_{against}_seeds": [d.seeds for d in differences],
        f"vs_{against}_p": [d.p_value for d in differences],
        f"vs_{against}_p_holm": holm([d.p_value for d in differences]),
    }


def _section(group: Group) -> tuple[str, str]:
    return group.spec.protocol, group.spec.training.scoring


def _title(group: Group) -> str:
    """A protocol's title, with the version of its file where that is not the first."""
    title, version = group.runs[0].record.title, group.spec.protocol_version
    return title if version == 1 else f"{title} (version {version})"


def comparators(against: Iterable[str]) -> tuple[str, ...]:
    """The fixed comparator, then those that a user names, each once."""
    return tuple(dict.fromkeys([COMPARATOR, *against]))


def make_board(runs: Iterable[Summary], against: Iterable[str] = ()) -> Board:
    """Make one board.

    Args:
        runs: Runs on one protocol file, all simulated or none.
        against: Methods that the rows are compared with besides the fixed comparator.
    """
    groups = grouped(runs)
    specs = [group.spec for group in groups]
    names = labels(specs)
    shown = titles(specs, names)
    frame = pd.DataFrame([_row(group, name) for group, name in zip(groups, shown, strict=True)])
    for position, (group, other) in enumerate(zip(groups, _reference_baselines(groups, names), strict=True)):
        if other is not None:
            frame.loc[position, "below_yardstick"] = "yes" if group.miou < other.miou else "no"
    for _, rows in frame.groupby(["protocol", "scoring"], sort=True):
        found = effective_robustness(rows["source_miou"].tolist(), rows["miou"].tolist())
        frame.loc[rows.index, "effective_robustness"] = found
    chosen = comparators(against)
    for other_name in chosen:
        columns = comparison_columns(other_name, compared(groups, names, other_name))
        frame = pd.concat([frame, pd.DataFrame(columns)], axis=1)
    frame = frame.sort_values(["protocol", "scoring", "miou", "id"], ascending=[True, True, False, True])
    own = [row for group, name in zip(groups, shown, strict=True) for row in _details(group, name)]
    details = pd.DataFrame(own, columns=list(_DETAILS))
    place = {identity: number for number, identity in enumerate(frame["id"])}
    details = details.assign(place=details["id"].map(place)).sort_values("place", kind="stable")
    return Board(
        rows=frame.reset_index(drop=True),
        details=details.drop(columns="place").reset_index(drop=True),
        titles={group.spec.protocol: _title(group) for group in groups},
        against=chosen,
    )


def _reference_baselines(groups: Sequence[Group], names: Sequence[str]) -> list[Group | None]:
    """For each row the reference baseline on its tiles; None for that baseline itself, and where there is none."""
    candidates = find(REFERENCE_BASELINE, groups, names)
    result: list[Group | None] = []
    for group in groups:
        alike = [
            c
            for c in candidates
            if c.runs[0].tiles == group.runs[0].tiles
            and _section(c) == _section(group)
            and group.spec.method_name != REFERENCE_BASELINE
        ]
        result.append(alike[0] if len(alike) == 1 else None)
    return result
