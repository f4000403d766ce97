"""From what a user asks for to a complete specification, with every input opened and nothing written yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.backbones import backbone_entry, weights_fingerprint
from spectral_tl_bench.config.spec import RunChoices, RunSpec, TrainingSpec
from spectral_tl_bench.datamodules.leakage_checks import Parts
from spectral_tl_bench.datasets import archive_root, open_dataset
from spectral_tl_bench.datasets.checksums import TileContent, data_fingerprint
from spectral_tl_bench.datasets.cross_sensor import OtherBands, crossed
from spectral_tl_bench.datasets.io.listing import raise_first
from spectral_tl_bench.methods import AnyMethod, PixelModel, build_any_method
from spectral_tl_bench.records.pretraining import check_unseen
from spectral_tl_bench.records.run_yaml import NAMED_WEIGHTS
from spectral_tl_bench.records.stage1 import check_stage1
from spectral_tl_bench.runs.defaults import fitted_to_tiles
from spectral_tl_bench.runs.requests import Request
from spectral_tl_bench.simulation import read_marker
from spectral_tl_bench.splits.assignment import Split, split_tiles
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import short_name, source_digest
from spectral_tl_bench.utils.weight_metadata import fingerprint

if TYPE_CHECKING:
    import numpy as np

    from spectral_tl_bench.datasets.base import TileDataset


_STAGES = (("segmentation",), ("reconstruction", "segmentation"))


@dataclass(frozen=True)
class Plan:
    """A run whose inputs are open and whose specification is complete."""

    request: Request
    spec: RunSpec
    dataset: TileDataset
    split: Split
    contents: Mapping[str, TileContent]
    method: AnyMethod
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """Pretrained weights as :func:`~spectral_tl_bench.backbones.build_backbone` takes them."""
        given = self.request.where.weights
        return "none" if given is None else given


def _shown(method: AnyMethod, backbone: str) -> OtherBands:
    """How a model sees bands that it was not built for."""
    if isinstance(method, PixelModel) or not method.keeps_tokenizer:
        return "resampled"
    return "wavelengths" if backbone_entry(backbone).from_wavelengths else "resampled"


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


def _require_band_tokens(choices: RunChoices) -> None:
    """Refuse settings of band tokens where the backbone has none: nothing would follow from them.

    Raises:
        SpectralBenchError: If one is not at its default.
    """
    for name in ("band_tokens", "band_dropping"):
        default = TrainingSpec.model_fields[name].default
        if getattr(choices.training, name) != default and not backbone_entry(choices.backbone).band_tokens:
            raise SpectralBenchError(
                f"{name} is about backbones with a token for each band of a patch, and {choices.backbone} has one for "
                "all; leave it out, or take --backbone spectral_mae_micro"
            )


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
        registry.load(name)
    _require_band_tokens(choices)
    method = build_any_method(choices.method, dict(choices.method_options))
    if not isinstance(method, PixelModel) and tuple(method.stages) not in _STAGES:
        raise SpectralBenchError(
            f"{choices.method} has the stages {', '.join(method.stages) or 'none'}; a method has segmentation, or "
            "reconstruction and then segmentation"
        )
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
    if where.stage1 is not None and (isinstance(method, PixelModel) or "reconstruction" not in method.stages):
        raise SpectralBenchError(
            f"--stage1 was given, but {choices.method} has no reconstruction stage with these options"
        )
    how = _shown(method, choices.backbone)
    dataset = crossed(dataset, request.protocol, split.target.tolist(), how)
    simulated = read_marker(root) is not None
    notes: tuple[str, ...] = ()
    if not isinstance(method, PixelModel):
        sides = dataset.index[["height", "width"]].min(axis=1).to_numpy()
        # Simulated tiles are as large as the preset that they are made for.
        if not simulated:
            fitted = fitted_to_tiles(training, choices.backbone, request.assigned, sides[split.training].tolist())
            choices = choices.model_copy(update={"training": fitted})
        notes = tuple(_about_sizes(training, choices.training, sides[split.tiles]))
        training = choices.training
    contents = dataset.contents(split.tiles.tolist())
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
    weights = "none" if isinstance(method, PixelModel) or where.weights is None else where.weights
    spec = RunSpec(
        **choices.model_dump(exclude={"method_options"}),
        method_options=method.options(),
        method_defaults=method.defaults(),
        method_source=source_digest(choices.method),
        protocol=request.protocol.name,
        protocol_digest=request.protocol.digest,
        dataset=short_name(file.dataset),
        data=data_fingerprint(contents),
        split=split.digest(dataset.index),
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


def _about_sizes(before: TrainingSpec, training: TrainingSpec, sides: np.ndarray) -> Iterator[str]:
    """Say what windows have to do with tiles of other sizes."""
    size = training.image_size
    if size != before.image_size:
        yield (
            f"image_size is {size} and not {before.image_size}: half of the training tiles are no larger than "
            f"{size} px or little more (--train image_size=... sets another)"
        )
    smaller = int((sides < size).sum())
    if smaller and training.resolution == "native":
        yield (
            f"{smaller} of {len(sides)} tiles are smaller than image_size {size}: they are padded with pixels that "
            "neither train nor count"
        )
