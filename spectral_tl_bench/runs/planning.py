"""From a request to a complete specification: every input is opened, nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.backbones import backbone_entry, weights_fingerprint
from spectral_tl_bench.config.spec import LabelCount, RunChoices, RunSpec
from spectral_tl_bench.datamodules.leakage_checks import Parts
from spectral_tl_bench.datasets import archive_root, open_dataset
from spectral_tl_bench.datasets.checksums import data_fingerprint
from spectral_tl_bench.datasets.cross_sensor import crossed
from spectral_tl_bench.datasets.io.listing import raise_first
from spectral_tl_bench.methods import build_any_method
from spectral_tl_bench.records.pretraining import check_unseen
from spectral_tl_bench.records.run_yaml import NAMED_WEIGHTS
from spectral_tl_bench.records.stage1 import check_stage1
from spectral_tl_bench.runs.method_runner import runner_of
from spectral_tl_bench.runs.plan import Plan, Request
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.simulation import read_marker
from spectral_tl_bench.splits.assignment import Split, split_tiles
from spectral_tl_bench.splits.few_labels import labelled_tiles
from spectral_tl_bench.utils.errors import DataError, SpectralBenchError
from spectral_tl_bench.utils.registry import PluginError, short_name, source_digest
from spectral_tl_bench.utils.weight_metadata import fingerprint

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset


def _sources(choices: RunChoices, dataset: str) -> dict[str, str]:
    """Digests of the user's files that take part, apart from the method's."""
    named = {
        "backbone": choices.backbone,
        "dataset": dataset,
        **{registry.kind: name for registry, name in choices.training.seams()},
    }
    return {seam: digest for seam, name in named.items() if (digest := source_digest(name)) is not None}


_INPUTS = {
    "data": "the data",
    "split": "the tiles that train, select and test",
    "protocol_digest": "the words of the protocol",
    "weights": "the pretrained weights",
    "method_source": "the contents of the method's file",
    "sources": "files that the run names",
    "stage1": "the stage-1 weights",
}


def _require_as_recorded(recorded: RunSpec, spec: RunSpec) -> None:
    """Refuse to call something else a repetition.

    Raises:
        SpectralBenchError: If an input is not what it was; the message names it.
    """
    for field, words in _INPUTS.items():
        before, now = getattr(recorded, field), getattr(spec, field)
        if before != now:
            raise SpectralBenchError(
                f"--config: {words} differ from what that run recorded ({before}, now {now}); bring them back, or "
                "start a run of its own with --method and --protocol"
            )


def _labels(dataset: TileDataset, split: Split, fraction: float, seed: int) -> LabelCount | None:
    """Count the labels of a run that uses a share of them.

    Raises:
        DataError: If the share has no labelled pixel.
    """
    if fraction >= 1:
        return None
    labelled = labelled_tiles(split, dataset.index, fraction, seed)
    windows = zip(labelled.rows.tolist(), labelled.heights.tolist(), labelled.widths.tolist(), strict=True)
    masks = (dataset.read_stored(row, (0, 0, height, width))["mask"] for row, height, width in windows)
    pixels = sum(int((mask != IGNORE_INDEX).sum()) for mask in masks)
    if not pixels:
        raise DataError(f"label_fraction {fraction:g} leaves no labelled pixel; raise it, or take another --seed")
    return LabelCount(tiles=len(labelled.rows), pixels=pixels, share=round(labelled.share, 6))


def plan(request: Request, opened: dict[tuple[str, Path], TileDataset] | None = None) -> Plan:
    """Open the archive and complete the specification.

    Args:
        request: What is asked for.
        opened: Archives that earlier plans have opened, by what was opened and where; gets this one.

    Raises:
        SpectralBenchError: If any input is wrong; nothing has been written then.
    """
    choices, where = request.choices, request.where
    training, file = choices.training, request.protocol.file
    for registry, name in training.seams():
        if not callable(registry.load(name)):
            raise PluginError(f"{registry.kind} {name} is no function or class")
    method = build_any_method(choices.method, dict(choices.method_options))
    runner = runner_of(type(method))
    runner.require_valid(method, request)
    root = archive_root(file.dataset, where.root)
    opened = {} if opened is None else opened
    # Protocols of one file share an archive, whatever tiles they take of it.
    key = file.model_dump_json(exclude={"protocols", "title"}), root
    if key not in opened:
        opened[key] = open_dataset(file, root)
    dataset = opened[key]
    dataset.require(request.protocol.transfer)
    places = dataset.places if training.held_out_rule == "cells" else None
    split = split_tiles(request.protocol, dataset.index, training.held_out_fraction, places)
    how = runner.other_bands(method, choices.backbone)
    dataset = crossed(dataset, request.protocol, split.target.tolist(), how)
    simulated = read_marker(root) is not None
    sides = dataset.index[["height", "width"]].min(axis=1).to_numpy()
    choices, notes = runner.fit_to_tiles(
        request, sides[split.training].tolist(), sides[split.tiles].tolist(), simulated
    )
    training = choices.training
    contents = dataset.checksums(split.tiles.tolist())
    parts = Parts(
        request.protocol.name,
        dataset,
        split,
        contents,
        training.label_fraction,
        choices.seed,
        by_cells=training.held_out_rule == "cells",
    )
    raise_first(list(parts.problems()))
    weights = where.weights or "none"
    spec = RunSpec(
        **choices.model_dump(exclude={"method_options"}),
        method_options=method.options(),
        method_defaults=method.defaults(),
        method_source=source_digest(choices.method),
        protocol=request.protocol.name,
        protocol_version=file.version,
        protocol_digest=request.protocol.digest,
        dataset=short_name(file.dataset),
        data=data_fingerprint(contents),
        split=split.digest(dataset.index),
        labels=_labels(dataset, split, training.label_fraction, choices.seed),
        simulated=simulated,
        weights="none" if weights == "none" else weights_fingerprint(choices.backbone, weights),
        weights_file=None if weights in NAMED_WEIGHTS else Path(weights).stem,
        stage1=None if where.stage1 is None else fingerprint(where.stage1),
        other_bands=how if dataset.crossing is not None and dataset.crossing.differ else None,
        sources=_sources(choices, file.dataset),
    )
    names = dataset.index["tile"].astype(str).to_numpy()
    unseen = {name: contents[name].image for name in (*names[split.held_out], *names[split.target])}
    if weights not in ("none", "hub"):
        check_unseen(backbone_entry(choices.backbone).file(weights), request.protocol.name, unseen)
    if where.stage1 is not None:
        check_stage1(where.stage1, spec, dataset.sensor, unseen)
    if request.recorded is not None:
        _require_as_recorded(request.recorded, spec)
    return Plan(request, spec, dataset, split, contents, method, (*parts.notes(), *notes))
