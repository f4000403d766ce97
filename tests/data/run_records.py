"""Small finished runs, written for the tests."""

import json
from functools import cache

import numpy as np
import pandas as pd

from spectral_tl_bench.config.presets import PRESETS
from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records import (
    PARTS,
    ClassLegend,
    ConfusionTable,
    ParameterCounts,
    RunRecord,
    Selected,
    StageRecord,
    TileCounts,
    provenance,
    write_run,
    write_run_yaml,
)
from spectral_tl_bench.records.counts import Counts, open_table, read_table
from spectral_tl_bench.records.record import sealed

CLASSES = ("water", "forest", "urban")
HERE = cache(lambda: provenance(threads=1))
"""Asked once: it starts git, and reads the metadata of packages."""


def spec(**changes):
    values = {
        "protocol": "whu_region/s2t",
        "protocol_digest": "0123abcd",
        "dataset": "whuohs",
        "data": "tiles",
        "split": "7",
        "simulated": False,
        "method": "lora",
        "method_options": {"alpha": 16.0, "rank": 8},
        "backbone": "vit_micro",
        "preset": "quick",
        "training": PRESETS["quick"],
        "seed": 0,
    }
    return RunSpec(**{**values, **changes})


def record(run_spec=None, **changes):
    values = {
        "spec": run_spec or spec(),
        "title": "Source to target",
        "classes": tuple(ClassLegend(name=name, color="#102030") for name in CLASSES),
        "provenance": HERE(),
        "stages": {"segmentation": StageRecord(steps=300, seconds=12.5)},
        "peak_memory_mib": 512.0,
        "parameters": ParameterCounts(allocated=3_000_000, trainable=40_000, gradient_receiving=40_000),
        "parameters_with_decoder": ParameterCounts(allocated=3_500_000, trainable=540_000, gradient_receiving=540_000),
        "selected": Selected(best_step=240, last_step=300),
        "held_out_rule": "blocks",
        "tiles": TileCounts(train=20, held_out=3, target=12, margin=0),
    }
    return RunRecord(**{**values, **changes})


def matrix(rng, accuracy, pixels=400):
    """Counts of a tile whose pixels are right with probability ``accuracy``, else uniformly wrong."""
    classes = len(CLASSES)
    chances = np.full((classes, classes), (1 - accuracy) / (classes - 1))
    np.fill_diagonal(chances, accuracy)
    return np.stack([rng.multinomial(pixels, row) for row in chances]).astype(np.int64)


def counts(accuracy=0.7, source=0.9, last=None, subdomains=("autumn", "spring"), tiles=6, seed=0):
    """Counts of a run: ``tiles`` target tiles in each sub-domain, three held-out source tiles."""
    rng = np.random.default_rng(seed)
    table = ConfusionTable()
    for selection, level in (("best", accuracy), ("last", accuracy if last is None else last)):
        for subdomain in subdomains:
            for number in range(tiles):
                table.add(selection, "target", f"{subdomain}-{number}", subdomain, matrix(rng, level))
        for number in range(3):
            table.add(selection, "held_out_source", f"source-{number}", "summer", matrix(rng, source))
    return table.frame()


def write(root, run_spec=None, confusion=None, **levels):
    """Write a finished run below ``root`` and return its folder."""
    run_spec = run_spec or spec()
    folder = root / run_spec.folder
    if confusion is None:
        confusion = counts(seed=run_spec.seed, **levels)
    scored = confusion[confusion["selection"] == run_spec.training.selection].groupby("part")["tile"].nunique()
    held_out, target = (int(scored.get(part, 0)) for part in PARTS)
    tiles = TileCounts(train=20, held_out=held_out, target=target, margin=0)
    write_run(folder, record(run_spec, tiles=tiles), confusion, pd.DataFrame({"step": [60], "loss": [0.5]}))
    write_run_yaml(folder, run_spec, {"root": "data"})
    return folder


def reseal(folder):
    """Give the files of a run that a test has changed the checksums of what they hold now."""
    path, counted = folder / "run.json", folder / "confusion.parquet"
    content = json.loads(path.read_text())
    content["counts"] = Counts.of(read_table(open_table(counted, counted), counted), counted).digest()
    path.write_text(json.dumps(sealed(content)))
