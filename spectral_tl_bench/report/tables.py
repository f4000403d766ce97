"""The table of one run: a row per target sub-domain, all targets, the worst, and the held-out source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.typing import NAType

from spectral_tl_bench.metrics import Matrix
from spectral_tl_bench.presets import PRESETS, WITHOUT_BACKBONE, training_without_backbone
from spectral_tl_bench.records import Run, write_bytes
from spectral_tl_bench.records.confusion import Selection, matrices, total
from spectral_tl_bench.scores import evaluate, per_class_iou, scores
from spectral_tl_bench.spec import RunSpec

if TYPE_CHECKING:
    from rich.table import Table

ALL_TARGETS, WORST, HELD_OUT, GAP = "all targets", "worst", "held-out source", "gap to source"
SIMULATED = "SIMULATED"


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


def heading(spec: RunSpec) -> str:
    """What ran on what, in one line; begins with SIMULATED where the tiles were simulated."""
    details = [] if spec.backbone == WITHOUT_BACKBONE else [spec.backbone, spec.preset]
    details.append(f"seed {spec.seed}")
    if spec.training.scoring != "native":
        details.append(f"{spec.training.scoring} scoring")
    text = f"{spec.method_name} on {spec.protocol} ({', '.join(details)})"
    return f"{SIMULATED}: {text}" if spec.simulated else text


def title(run: Run) -> str:
    """Heading of a run's table."""
    return heading(run.record.spec)


def as_text(value: object) -> str:
    """A table cell: two decimals for fractions, a dash for what is undefined."""
    if value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def render(run: Run) -> Table:
    """Return a run's table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    frame = protocol_table(run)
    table = Table(title=escape(title(run)), title_justify="left", caption="percent", caption_justify="left")
    for column in frame.columns:
        table.add_column(column, justify="left" if column == "domain" else "right")
    for row in frame.itertuples(index=False):
        first_summary = row[0] == ALL_TARGETS
        if first_summary:
            table.add_section()
        table.add_row(*(escape(as_text(value)) for value in row), style="bold" if first_summary else None)
    return table


def to_markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a GitHub table, numbers aligned right."""
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    lines = [list(map(str, frame.columns)), ["---:" if number else "---" for number in numeric]]
    lines += [[as_text(value).replace("|", "\\|") for value in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


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
    write_bytes(folder / "table.csv", frame.to_csv(index=False, lineterminator="\n").encode())
    text = f"# {title(run)}\n\n{run.record.title}. Figures in percent.\n\n{to_markdown(protocol_table(run))}"
    write_bytes(folder / "table.md", text.encode())


def assignments(values: Mapping[str, Any]) -> str:
    """Settings as text: ``name=value`` by name, with commas."""
    texts = {k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in values.items()}
    return ", ".join(f"{name}={text}" for name, text in sorted(texts.items()))


def changes(spec: RunSpec) -> str:
    """How a run's training differs from its preset as it is now, as :func:`assignments`."""
    if spec.backbone == WITHOUT_BACKBONE:
        preset = training_without_backbone(PRESETS["reference" if spec.training.scoring == "reference" else "quick"])
        usual = preset.model_dump()
    else:
        usual = PRESETS[spec.preset].model_dump() if spec.preset in PRESETS else {}
    return assignments({k: v for k, v in spec.training.model_dump().items() if usual.get(k) != v})
