"""Every try of a sweep over learning rates in one table, with the rate that held-out source tiles choose.

    python -m spectral_tl_bench.benchmarks.learning_rates RUNS

``RUNS`` is the folder of `spectral-bench sweep learning_rates`. Targets are not looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.records.run import RECORD, find_runs, read_run
from spectral_tl_bench.records.titles import HELD_OUT
from spectral_tl_bench.report.tables import protocol_table


def tries(runs: Path) -> pd.DataFrame:
    """Held-out source mIoU of every complete run, in percent.

    Returns:
        A row a run: method, learning_rate, seed, preset, held_out.
    """
    rows = []
    for folder in find_runs(runs):
        # A sweep may still be going on.
        if not (folder / RECORD).is_file():
            continue
        run = read_run(folder)
        spec = run.record.spec
        score = protocol_table(run).set_index("domain")["mIoU"][HELD_OUT]
        rows.append((spec.method_name, spec.training.learning_rate, spec.seed, spec.preset, score))
    return pd.DataFrame(rows, columns=["method", "learning_rate", "seed", "preset", "held_out"])


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Methods by rates, the mean over seeds, with the best rate and its factor on the preset's.

    Args:
        table: Of :func:`tries`, of one preset.
    """
    by_rate = table.pivot_table(index="method", columns="learning_rate", values="held_out", aggfunc="mean")
    best = by_rate.idxmax(axis=1)
    usual = preset(str(table["preset"].iloc[0])).learning_rate
    return by_rate.assign(chosen=best, factor=(best / usual).round(3))


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, help="folder of the sweep's runs")
    table = chosen(tries(parser.parse_args().runs))
    lines = [[str(name) for name in ("method", *table.columns)], ["---", *("---:" for _ in table.columns)]]
    for method, row in table.iterrows():
        figures = [f"{value:.1f}" for value in row.iloc[:-2]]
        lines.append([str(method), *figures, f"{row['chosen']:g}", f"{row['factor']:g}"])
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))  # noqa: T201  # the table is what it is for


if __name__ == "__main__":
    main()
