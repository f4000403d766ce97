"""What a run's page shows of the files in its folder: training curves, maps, and what the method drew or listed.

A PNG or CSV file in the folder that is none of the bench's files was written by the method's ``diagnostics()``; its
title is the name of the file. Whoever made a file, the page is written: what cannot be shown is left out.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spectral_tl_bench.records import HISTORY, MAPS, Run, damaged_files
from spectral_tl_bench.report.formatting import plain
from spectral_tl_bench.report.site.assets import Assets, Picture
from spectral_tl_bench.report.site.charts import Chart, curve
from spectral_tl_bench.report.site.table_cells import Column, Table, assemble, words
from spectral_tl_bench.report.tables import TABLES
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR
from spectral_tl_bench.utils.files import read_regular_file
from spectral_tl_bench.utils.paths import leads_out

MOST_MAPS = 24
"""Maps on a page; the folder may hold one a tile."""
RECONSTRUCTION = "reconstruction.png"
_MOST_PLACES = 600
"""Places of a training curve."""
_MOST_STAGES = 8
_MOST_BYTES = 16 * 2**20
_MOST_ROWS, _MOST_COLUMNS = 100, 30
"""Of a method's table; the folder has all of it."""
_LONGEST_CELL = 200
_MOST_DIAGNOSTICS = 24
_CURVES = (("loss", "loss", 1, TARGET_COLOR), ("held_out_miou", "held-out source mIoU (%)", 100, SOURCE_COLOR))


@dataclass(frozen=True)
class RunFiles:
    """What is shown of a run's folder.

    Attributes:
        curves: Loss and held-out score by step.
        maps: Pictures of tiles.
        more_maps: How many are not shown.
        pictures: Examples of reconstruction, and whatever the method drew.
        tables: What the method listed.
        problems: A line for each file that is damaged.
    """

    curves: tuple[Chart, ...]
    maps: tuple[Picture, ...]
    more_maps: int
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    problems: tuple[str, ...]


def run_files(run: Run, assets: Assets) -> RunFiles:
    """Read what the page of a run shows of its folder; a packed run has none.

    Args:
        run: The run.
        assets: Gets copies of its pictures.
    """
    damaged = damaged_files(run, [HISTORY])
    curves = () if damaged else _curves(run.folder / HISTORY, run.folder)
    maps = _inside(run.folder, (run.folder / MAPS).glob("*.png"))
    names = {HISTORY, *TABLES}
    diagnostics = [path for path in _inside(run.folder, run.folder.glob("*.*")) if path.name not in names]
    drawn = sorted(
        (path for path in diagnostics if path.suffix == ".png"), key=lambda path: (path.name != RECONSTRUCTION, path)
    )
    pictures = [assets.picture(path, _title(path)) for path in drawn[:_MOST_DIAGNOSTICS]]
    listed = [path for path in diagnostics if path.suffix == ".csv"][:_MOST_DIAGNOSTICS]
    tables = [_table(path, f"diagnostics-{number}") for number, path in enumerate(listed)]
    shown = [assets.picture(path, plain(path.stem)) for path in maps[:MOST_MAPS]]
    return RunFiles(
        curves=curves,
        maps=tuple(picture for picture in shown if picture is not None),
        more_maps=max(0, len(maps) - MOST_MAPS),
        pictures=tuple(picture for picture in pictures if picture is not None),
        tables=tuple(table for table in tables if table is not None),
        problems=tuple(f"{run.folder / name} is damaged and not shown; run it again" for name in damaged),
    )


def _inside(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """The visible files among paths that are not links out of a folder, sorted."""
    return sorted(path for path in paths if not path.name.startswith(".") and not leads_out(folder, path))


def _title(path: Path) -> str:
    """Title of a picture or table: ``band_weights.png`` shows "Band weights"."""
    text = plain(path.stem).replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def _rows(path: Path) -> Iterable[list[str]]:
    """Rows of a CSV file that anybody may have written; none where it cannot be read."""
    try:
        text = read_regular_file(path, _MOST_BYTES).decode(errors="replace")
        yield from csv.reader(io.StringIO(text, newline=""))
    except (OSError, csv.Error):
        return


def _table(path: Path, identifier: str) -> Table | None:
    rows = iter(_rows(path))
    header = next(rows, None)
    if not header:
        return None
    shown = [row for _, row in zip(range(_MOST_ROWS), rows, strict=False)]
    more = next(rows, None) is not None or len(header) > _MOST_COLUMNS
    columns = []
    for number, name in enumerate(header[:_MOST_COLUMNS]):
        values = [row[number][:_LONGEST_CELL] if number < len(row) else "" for row in shown]
        columns.append((Column(plain(name[:_LONGEST_CELL])), words(values)))
    return assemble(identifier, columns, _title(path) + (" (the run's folder has more)" if more else ""))


def _curves(path: Path, folder: Path) -> tuple[Chart, ...]:
    """Training curves by stage; none where there is no history that can be read."""
    if leads_out(folder, path):
        return ()
    rows = iter(_rows(path))
    place = {name: number for number, name in enumerate(next(rows, []))}
    if "step" not in place:
        return ()
    values: dict[tuple[str, str], list[tuple[float, float]]] = {}
    stages: dict[str, None] = {}
    for row in rows:
        stage = row[place["stage"]] if place.get("stage", len(row)) < len(row) else "segmentation"
        stages.setdefault(stage)
        for column, *_ in _CURVES:
            if column in place and max(place["step"], place[column]) < len(row):
                x, y = _number(row[place["step"]]), _number(row[place[column]])
                if math.isfinite(x) and math.isfinite(y):
                    values.setdefault((stage, column), []).append((x, y))
    drawn = []
    for stage in list(stages)[:_MOST_STAGES]:
        for column, label, factor, color in _CURVES:
            pairs = values.get((stage, column), [])
            pairs = pairs[:: max(1, len(pairs) // _MOST_PLACES)]
            if pairs:
                title = plain(f"{stage[:_LONGEST_CELL]}: {label.partition(' (')[0]}")
                steps, heights = zip(*pairs, strict=True)
                drawn.append(curve(title, ("step", label), steps, [factor * value for value in heights], color))
    return tuple(drawn)


def _number(text: str) -> float:
    """A number that can be drawn, NaN for everything else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if abs(value) < 1e30 else math.nan
