"""One run and one comparison in words, for the terminal."""

from __future__ import annotations

import pandas as pd

from spectral_tl_bench.records import Run
from spectral_tl_bench.report.compare import Comparison
from spectral_tl_bench.report.formatting import as_text
from spectral_tl_bench.report.names import DIGITS_OF_WEIGHTS, assignments, changes
from spectral_tl_bench.report.statistics import LEAST_SEEDS, tiles_interval


def facts(run: Run) -> list[tuple[str, str]]:
    """Facts about a run other than its scores, as labels and texts."""
    record, spec = run.record, run.record.spec
    tiles, stack = run.table.stack(run.num_classes, "tile", "target", run.selection)
    place = dict(zip(run.counts()["tile"].astype(str), run.counts()["subdomain"].astype(str), strict=True))
    interval = tiles_interval(stack, [place[tile] for tile in tiles], spec.training.scoring)
    counts = record.parameters
    made = record.provenance
    code = "" if made.git_commit is None else f", commit {made.git_commit[:10]}{' (changed)' if made.git_dirty else ''}"
    return [
        ("asks", record.title),
        (
            "these tiles only",
            f"mIoU {as_text(interval.low)} to {as_text(interval.high)} (95 %) had other tiles of these sub-domains "
            "been labelled; says nothing about another seed or place",
        ),
        ("options", assignments(spec.method_options) or "none"),
        ("training", f"preset {spec.preset}" + (f", {text}" if (text := changes(spec)) else "")),
        ("weights", spec.weights if spec.weights_file is None else f"{spec.weights_file}, {spec.weights}"),
        ("selected", f"{spec.training.selection}, step {record.selected.best_step} of {record.selected.last_step}"),
        (
            "tiles",
            f"{record.tiles.train} trained, {record.tiles.held_out} held out"
            + (f" with a margin of {record.tiles.margin} around them" if record.tiles.margin else "")
            + f", {record.tiles.target} scored",
        ),
        (
            "parameters",
            f"{counts.allocated:,} allocated, {counts.trainable:,} trainable, {counts.gradient_receiving:,} with "
            f"gradient ({record.parameters_with_decoder.trainable:,} trainable with decoder)",
        ),
        ("seconds", ", ".join(f"{name} {stage.seconds:.0f}" for name, stage in record.stages.items())),
        ("memory", "unknown" if record.peak_memory_mib is None else f"peak {record.peak_memory_mib:.0f} MiB"),
        ("made by", f"version {made.version}{code}, {made.gpu or made.cpu}, {made.date}"),
        ("folder", str(run.folder)),
    ]


def comparison_table(found: Comparison) -> pd.DataFrame:
    """A comparison as a person reads it."""
    frame, (first, second) = found.table, found.names
    several = {name: frame[name].nunique() > 1 for name in ("backbone", "weights")}
    ranges = zip(frame["low"], frame["high"], strict=True)
    return pd.DataFrame(
        {
            "protocol": [
                protocol if scoring == "native" else f"{protocol} ({scoring} scoring)"
                for protocol, scoring in zip(frame["protocol"], frame["scoring"], strict=True)
            ],
            **({"backbone": frame["backbone"]} if several["backbone"] else {}),
            **({"weights": frame["weights"].str[:DIGITS_OF_WEIGHTS]} if several["weights"] else {}),
            f"{first} ": frame["first"],
            f" {second}": frame["second"],
            "difference": [f"{value:+.2f}" for value in frame["difference"]],
            "95 %": ["-" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ranges],
            "seeds": frame["seeds"],
            "p": ["-" if pd.isna(p) else p_text(p).removeprefix("= ") for p in frame["p_holm"]],
        }
    )


def p_text(p_value: float) -> str:
    """A p-value with what it is: "= 0.012" or "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def verdict(found: Comparison) -> str:
    """What a comparison says over all transfers, a line for each backbone and its weights, or why it says nothing."""
    first, second = found.names
    if not found.over_transfers:
        return "over all transfers: not both ran on every one of them, so there is no mean"
    lines = []
    for (backbone, weights), whole in found.over_transfers.items():
        with_it = f", {backbone} ({weights[:DIGITS_OF_WEIGHTS]})" if len(found.over_transfers) > 1 else ""
        agreeing = f"same sign in {whole.agreeing} of {whole.transfers}"
        text = f"over all transfers{with_it}: {first} minus {second} {whole.mean:+.2f}, {agreeing}, "
        if pd.isna(whole.p_value):
            lines.append(f"{text}{whole.seeds} seeds in common; a verdict needs {LEAST_SEEDS}")
        else:
            lines.append(
                f"{text}95 % {whole.interval.low:+.2f} to {whole.interval.high:+.2f} for other transfers and seeds, "
                f"p {p_text(whole.p_value)} ({whole.seeds} seeds)"
            )
    return "\n".join(lines)
