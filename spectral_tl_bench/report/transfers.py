"""One figure over all transfers: who adapts best whatever the sensor, the region and the season."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from spectral_tl_bench.protocols import TRANSFERS
from spectral_tl_bench.records import Run
from spectral_tl_bench.records.confusion import Part, Selection, total
from spectral_tl_bench.report.statistics import spread
from spectral_tl_bench.report.tables import assignments, changes
from spectral_tl_bench.scores import headline
from spectral_tl_bench.spec import RunSpec

_OF_A_PROTOCOL = {"protocol": "-", "protocol_digest": "-", "dataset": "-", "data": "-", "seed": 0}


def percent(run: Run, part: Part = "target", selection: Selection | None = None) -> float:
    """MIoU in percent over all tiles of one part of a run, by default at the step that it selects."""
    counts = total(run.counts(part, selection), run.num_classes)
    return float(headline(counts, run.record.spec.training.scoring))


def same_but_protocol_and_seed(spec: RunSpec) -> str:
    """Digest of what is adapted and how, whatever it is trained on."""
    return spec.model_copy(update=_OF_A_PROTOCOL).digest


def over_transfers(runs: Iterable[Run]) -> pd.DataFrame:
    """Average methods over all transfers.

    Args:
        runs: Runs, all simulated or none.

    Returns:
        A row for each configuration that ran on every transfer with at least one seed, by falling mean. ``mean`` and
        ``sd`` are over the seeds that are complete, each averaged over the transfers, as is ``source_mean``, of the
        held-out source tiles; a column per transfer has its mean over the same seeds. All in percent.
    """
    names = TRANSFERS
    groups: dict[str, dict[int, dict[str, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        spec = run.record.spec
        if spec.protocol in names:
            groups[same_but_protocol_and_seed(spec)][spec.seed][spec.protocol] = run
    rows: list[dict[str, Any]] = []
    for identity, by_seed in groups.items():
        complete = [by_seed[seed] for seed in sorted(by_seed) if len(by_seed[seed]) == len(names)]
        if not complete:
            continue
        target = np.array([[percent(seed[name]) for name in names] for seed in complete])
        source = np.array([[percent(seed[name], "held_out_source") for name in names] for seed in complete])
        means = spread(target.mean(axis=1).tolist())
        spec = complete[0][names[0]].record.spec
        rows.append(
            {
                "method": spec.method_name,
                "options": assignments(spec.method_options),
                "backbone": spec.backbone,
                "weights": spec.weights,
                "preset": spec.preset,
                "changes": changes(spec),
                "seeds": means.count,
                "mean": means.mean,
                "sd": means.deviation,
                "source_mean": source.mean(),
                **dict(zip(names, target.mean(axis=0), strict=True)),
                "id": identity,
            }
        )
    frame = pd.DataFrame(rows)
    return frame if frame.empty else frame.sort_values(["mean", "id"], ascending=[False, True], ignore_index=True)
