"""The table of one run: a row per target sub-domain, all targets, the worst, and the held-out source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.typing import NAType

from spectral_tl_bench.records import Run, metrics, write_bytes
from spectral_tl_bench.records.confusion import Selection, matrices, total
from spectral_tl_bench.records.metrics import Matrix
from spectral_tl_bench.records.scores import evaluate, per_class_iou, scores
from spectral_tl_bench.records.titles import ALL_TARGETS, GAP, HELD_OUT, WORST, heading
from spectral_tl_bench.report.formatting import as_text, terminal, to_csv, to_markdown, to_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

TABLES = CSV, MARKDOWN = "table.csv", "table.md"
_NAME_WIDTH = 24


def protocol_table(run: Run, selection: Selection | None = None, per_class: bool = False) -> pd.DataFrame:
    """Score a run's target sub-domains and its held-out source tiles.

    Args:
        run: The run.
        selection: Which step's model; by default the one that the run selects.
        per_class: Whether to add a column of IoU per class.

    Returns:
        Rows: the target sub-domains (sorted), all targets pooled, the sub-domain of lowest mIoU under the name
        ``worst (its name)``, the held-out source, and the gap (held-out source minus all targets). Columns: domain,
        tiles, then every registered score in percent, the headline first; NaN where a score is undefined.
    """
    scoring = run.record.spec.training.scoring
    names = [c.name for c in run.record.classes] if per_class else []

    def values(confusion: Matrix) -> list[float]:
        row = [float(evaluate(score, confusion, scoring)) for score in scores()]
        return [*row, *per_class_iou(confusion, scoring).tolist()] if per_class else row

    target, source = run.counts("target", selection), run.counts("held_out_source", selection)
    tiles = target.groupby("subdomain")["tile"].nunique()
    by_subdomain = matrices(target, run.num_classes, "subdomain")
    subdomains = {name: values(confusion) for name, confusion in by_subdomain.items()}
    every = values(total(target, run.num_classes))
    held_out = values(total(source, run.num_classes))
    rows: list[tuple[str | float | NAType, ...]] = [
        (name, int(tiles.loc[name]), *figures) for name, figures in subdomains.items()
    ]
    rows.append((ALL_TARGETS, int(target["tile"].nunique()), *every))
    defined = {name: figures[0] for name, figures in subdomains.items() if not np.isnan(figures[0])}
    if defined:
        worst = min(defined, key=lambda name: defined[name])
        rows.append((f"{WORST} ({worst})", int(tiles.loc[worst]), *subdomains[worst]))
    rows.append((HELD_OUT, int(source["tile"].nunique()), *held_out))
    rows.append((GAP, pd.NA, *(s - t for s, t in zip(held_out, every, strict=True))))
    columns = ["domain", "tiles", *(score.label for score in scores()), *(f"IoU {name}" for name in names)]
    return pd.DataFrame(rows, columns=columns).astype({"tiles": "Int64"})


def title(run: Run) -> str:
    """Heading of a run's table."""
    return heading(run.record.spec)


def class_table(run: Run) -> pd.DataFrame:
    """Score a run's classes over all target tiles.

    Returns:
        A row per class. Columns: class, pixels (of that class in the ground truth), then in percent its IoU and F1, its
        producer's accuracy (recall) and user's accuracy (precision), and its IoU on held-out source tiles; NaN where a
        figure is undefined.
    """
    target = total(run.counts("target"), run.num_classes)
    source = total(run.counts("held_out_source"), run.num_classes)
    scoring = run.record.spec.training.scoring
    scored = metrics.without_absent_predictions(target) if scoring == "reference" else target
    return pd.DataFrame(
        {
            "class": [c.name for c in run.record.classes],
            "pixels": target.sum(axis=1),
            "IoU": per_class_iou(target, scoring),
            "F1": 100 * (metrics.reference_f1 if scoring == "reference" else metrics.f1)(target),
            "producer's": 100 * metrics.recall(scored),
            "user's": 100 * metrics.precision(scored),
            f"IoU {HELD_OUT}": per_class_iou(source, scoring),
        }
    )


def terminal_table(frame: pd.DataFrame, title: str, caption: str, bold: str | None = None) -> Table:
    """Lay a frame out for the terminal, its first column left; the row of a name is bold, with a line above it."""
    from rich.table import Table

    table = Table(title=terminal(title), title_justify="left", caption=terminal(caption), caption_justify="left")
    for number, column in enumerate(frame.columns):
        # Names in the first column are broken last.
        width = 0 if number else min(_NAME_WIDTH, max((len(as_text(value)) for value in frame.iloc[:, 0]), default=0))
        table.add_column(terminal(column), justify="right" if number else "left", overflow="fold", min_width=width)
    for row in frame.itertuples(index=False):
        if bold is not None and row[0] == bold:
            table.add_section()
        table.add_row(*(terminal(value) for value in row), style="bold" if row[0] == bold else None)
    return table


def domain_rendering(run: Run) -> Table:
    """A run's scores by domain for the terminal."""
    return terminal_table(protocol_table(run), title(run), "percent", ALL_TARGETS)


def class_rendering(run: Run, everything: bool = False) -> Table:
    """A run's scores by class for the terminal: the IoU, or everything."""
    frame = class_table(run)
    shown = frame if everything else frame[["class", "pixels", "IoU", f"IoU {HELD_OUT}"]]
    return terminal_table(shown, "by class, all targets", "percent")


def render(run: Run) -> Group:
    """Return a run's tables for the terminal: by domain, then by class."""
    from rich.console import Group

    return Group(domain_rendering(run), class_rendering(run))


def write_table(run: Run, folder: Path) -> None:
    """Write ``table.csv`` (full precision, per-class IoU) and ``table.md`` (two decimals).

    Args:
        run: The run.
        folder: Where to write; the run's folder.

    Raises:
        RecordError: If a file cannot be written.
    """
    frame = protocol_table(run, per_class=True)
    frame.insert(0, "data", "simulated" if run.record.simulated else "real")
    write_bytes(folder / CSV, to_csv(frame))
    text = (
        f"# {to_text(title(run))}\n\n{to_text(run.record.title)}. Figures in percent.\n\n"
        f"{to_markdown(protocol_table(run))}\nIoU by class, all targets:\n\n{to_markdown(class_table(run))}"
    )
    write_bytes(folder / MARKDOWN, text.encode())
