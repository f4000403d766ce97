"""From what a user asks for to a complete specification, with every input opened and nothing written yet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench import records
from spectral_tl_bench.backbones import weights_fingerprint
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.index import data_fingerprint
from spectral_tl_bench.simulation import default_archive, read_marker
from spectral_tl_bench.errors import ProtocolError, SpectralBenchError
from spectral_tl_bench.methods import AnyMethod, PixelModel, build_any_method, source_digest
from spectral_tl_bench.protocols import Protocol
from spectral_tl_bench.spec import RunSpec, TrainingSpec
from spectral_tl_bench.datamodules.splits import Split, split_tiles
from spectral_tl_bench.runs.stage1 import check_stage1
from spectral_tl_bench.weights import fingerprint

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset


@dataclass(frozen=True)
class Request:
    """What a user asks for: a run before its inputs are opened.

    Attributes:
        protocol: What to train and test on.
        method: Registered name or ``file.py:ClassName``.
        options: The method's hyper-parameters that differ from their defaults.
        backbone: Name of the backbone.
        preset: Name that ``training`` started from.
        training: How to train.
        seed: Seed of every random choice.
        root: Folder of the archive; None takes the embedded simulated one.
        weights: "none", "hub", "embedded" or a file.
        stage1: Weights of an earlier reconstruction stage to start from.
        protocol_file: The user's protocol file, so that the run can be repeated.
    """

    protocol: Protocol
    method: str
    backbone: str
    preset: str
    training: TrainingSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    root: Path | None = None
    weights: str = "none"
    stage1: Path | None = None
    protocol_file: Path | None = None


@dataclass(frozen=True)
class Plan:
    """A run whose inputs are open and whose specification is complete."""

    request: Request
    spec: RunSpec
    dataset: TileDataset
    split: Split
    method: AnyMethod


def archive_root(dataset: str, root: Path | None) -> Path:
    """Folder of an archive: as given, its sub-folder of the dataset's name, or the embedded simulated archive.

    Raises:
        SpectralBenchError: If there is none.
    """
    if root is None:
        if dataset == "tiles":
            raise ProtocolError("this protocol is about your own tiles: name their folder with --root")
        return default_archive(dataset)
    root = root.expanduser()
    if not root.is_dir():
        raise SpectralBenchError(f"there is no folder {root}; --root names the folder of the archive")
    return root / dataset if (root / dataset).is_dir() else root


def plan(request: Request) -> Plan:
    """Open the archive and complete the specification.

    Raises:
        SpectralBenchError: If any input is wrong; nothing has been written then.
    """
    method = build_any_method(request.method, dict(request.options))
    root = archive_root(request.protocol.file.dataset, request.root)
    dataset = open_dataset(request.protocol.file, root)
    split = split_tiles(request.protocol, dataset.index, request.training.held_out_fraction)
    protocol = request.protocol.model_dump_json(exclude={"file": {"protocols"}})
    if request.stage1 is not None and (
        isinstance(method, PixelModel) or "reconstruction" not in method.stages
    ):
        raise SpectralBenchError(
            f"--stage1 was given, but {request.method} has no reconstruction stage with these options"
        )
    spec = RunSpec(
        protocol=request.protocol.name,
        protocol_digest=hashlib.sha256(protocol.encode()).hexdigest()[:16],
        dataset=request.protocol.file.dataset,
        data=f"{data_fingerprint(dataset.index)}-{split.digest(dataset.index)}",
        simulated=read_marker(root) is not None,
        method=request.method,
        method_options=method.options(),
        method_source=source_digest(request.method),
        backbone=request.backbone,
        weights="none" if isinstance(method, PixelModel) else weights_fingerprint(request.backbone, request.weights),
        stage1=None if request.stage1 is None else fingerprint(request.stage1),
        preset=request.preset,
        training=request.training,
        seed=request.seed,
    )
    if request.stage1 is not None:
        names = dataset.index["tile"].astype(str).to_numpy()
        check_stage1(request.stage1, spec, dataset.sensor, [*names[split.held_out], *names[split.target]])
    return Plan(request, spec, dataset, split, method)


def where(request: Request) -> records.Where:
    """What ``run.yaml`` needs to find the inputs again."""

    def absolute(path: Path | None) -> str | None:
        return None if path is None else str(path.expanduser().resolve())

    return records.Where(
        root=absolute(request.root),
        protocol_file=absolute(request.protocol_file),
        weights=request.weights if request.weights in ("none", "hub", "embedded") else absolute(Path(request.weights)),
        stage1=absolute(request.stage1),
    )
