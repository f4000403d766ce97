"""A finished run's model, rebuilt from the run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spectral_tl_bench import records
from spectral_tl_bench.backbones import Backbone, backbone_entry, build_backbone
from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.datamodules.radiometry import MinMax, Radiometry, SourceStatistics
from spectral_tl_bench.datasets.io.raster import to_reflectance
from spectral_tl_bench.methods import Method, build_method, method_class
from spectral_tl_bench.records.run_yaml import CONFIG, NAMED_WEIGHTS
from spectral_tl_bench.runs.adapter import ADAPTER, Adapter, pretrained_digest, read_adapter
from spectral_tl_bench.runs.method_runner import runner_of
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.resampling import resampling_matrix
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils.errors import CheckpointError, RecordError
from spectral_tl_bench.utils.registry import source_digest
from spectral_tl_bench.utils.tensors import restore
from spectral_tl_bench.utils.trusted_code import require_trusted


@dataclass(frozen=True)
class RestoredRun:
    """A run's model as it was scored, in evaluation mode on the processor.

    Attributes:
        folder: The run's folder.
        adapter: What the run says of sensor, classes and settings.
        task: Scores and predicts as the run did.
        radiometry: Reflectance to what the model sees.
    """

    folder: Path
    adapter: Adapter
    task: Segmentation
    radiometry: Radiometry

    @property
    def window(self) -> tuple[int, int]:
        """Height and width in pixels of what the model sees: its own size, or that of the tiles that it resizes."""
        training = self.adapter.spec.training
        return self.adapter.tile if training.resolution == "resize" else (training.image_size, training.image_size)

    @property
    def brightness(self) -> float | None:
        """Mean reflectance of the source's training tiles, None where the run did not need it."""
        return float(self.radiometry.mean.mean()) if isinstance(self.radiometry, SourceStatistics) else None

    def normalise(self, stored: Tensor, scale: float, sensor: Sensor | None = None) -> Tensor:
        """Turn stored values into what the model sees.

        Args:
            stored: B x C x H x W.
            scale: Stored value that means a reflectance of 1.
            sensor: Bands of the values where they are not the run's and the model sees them by their wavelengths.
        """
        radiometry = self.radiometry
        if sensor is not None and isinstance(radiometry, SourceStatistics):
            radiometry = radiometry.resampled(resampling_matrix(self.adapter.sensor, sensor, clamp=True))
        images: Tensor = radiometry(to_reflectance(stored, scale))
        return images

    @contextlib.contextmanager
    def predicting(self, device: torch.device) -> Iterator[None]:
        """Predict on a device, without gradients and in the precision of the run's scores."""
        self.task.to(device)
        self.radiometry.to(device)
        mixed = self.adapter.spec.training.precision == "bf16-mixed"
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            yield


def restore_run(folder: Path, weights: str | None = None, *, trust_code: bool = False) -> RestoredRun:
    """Rebuild a run's model. Random numbers drawn meanwhile are given back to torch's generator.

    Args:
        folder: The run's folder.
        weights: Pretrained weights, as for ``--weights``; None takes what the run was started with.
        trust_code: Run Python files that the run names even if this user has not run them before.

    Raises:
        RecordError: If the folder holds no run.
        SpectralBenchError: If it names Python files that are not trusted.
        CheckpointError: If its weights are missing, damaged, of an older version, or need pretrained weights or a
            method file that cannot be found or are others than the run's.
    """
    spec, where = _configuration(folder)
    method = _method(folder, spec, trust_code)
    adapter, state, scaling = read_adapter(records.inside(folder, ADAPTER))
    if adapter.spec != spec:
        raise CheckpointError(
            f"{folder / ADAPTER} is of another run than {folder / CONFIG}; restore the folder or run it again"
        )
    source = _pretrained(spec, weights, where.weights)
    with torch.random.fork_rng(devices=[]):
        backbone: Backbone = build_backbone(spec.backbone, adapter.sensor, source)
        backbone.limit_band_tokens(spec.training.band_tokens, spec.training.band_dropping)
        if pretrained_digest(backbone) != adapter.pretrained:
            raise CheckpointError(
                f"the weights {source} of {spec.backbone} are not those that {folder} was trained with; "
                "pass those with --weights PATH"
            )
        method.apply(backbone)
        for stage in method.stages:
            method.begin_stage(backbone, stage)
        segmenter = Segmenter.of(backbone, len(adapter.classes), spec.training)
    restore(segmenter, state, backbone.pretrained_parameters, str(folder / ADAPTER))
    task = Segmentation(segmenter, method, spec.training, len(adapter.classes))
    radiometry = _radiometry(scaling, folder, spec, len(adapter.sensor.bands))
    if records.has_record(folder) and records.damaged_files(records.read_run(folder), [ADAPTER]):
        raise CheckpointError(f"{folder / ADAPTER} is damaged: its checksum is not that of its record; run it again")
    return RestoredRun(folder, adapter, task.eval(), radiometry)


def _configuration(folder: Path) -> tuple[RunSpec, records.Where]:
    if not (folder / CONFIG).is_file():
        inside = [path for path in records.find_runs(folder) if (path / CONFIG).is_file()]
        hint = f"did you mean {inside[0]}?" if inside else "`spectral-bench run` makes one"
        raise RecordError(f"{folder} is not the folder of a run: {hint}")
    return records.read_run_yaml(records.inside(folder, CONFIG))


def _method(folder: Path, spec: RunSpec, trust_code: bool) -> Method:
    named = {"backbone": spec.backbone, **{registry.kind: name for registry, name in spec.training.seams()}}
    files = [(spec.method, spec.method_source), *((name, spec.sources.get(seam)) for seam, name in named.items())]
    for name, digest in files:
        if digest is not None and source_digest(name) != digest:
            raise CheckpointError(
                f"{name} is not there as it was when the run trained; restore the file, or start in the folder where "
                "the run was started"
            )
    if not trust_code:
        require_trusted(folder, spec.plugins)
    cls = method_class(spec.method)
    if not runner_of(cls).keeps_model:
        raise CheckpointError(f"{spec.method_name} keeps no model, only its scores; take the run of another method")
    return build_method(spec.method, dict(spec.method_options))


def _pretrained(spec: RunSpec, given: str | None, recorded: str | None) -> str:
    """The argument of ``--weights`` that gives the run's pretrained weights."""
    if spec.weights in ("none", "hub"):
        # A file is taken for a hub's weights too, where there is no network; their digest is compared when it is read.
        return spec.weights if given is None else given
    entry = backbone_entry(spec.backbone)
    tried = [given] if given is not None else [recorded, "embedded" if entry.embedded is not None else None]
    for candidate in filter(None, tried):
        there = candidate in NAMED_WEIGHTS or Path(candidate).is_file()
        if there and entry.fingerprint(candidate) == spec.weights:
            return candidate
    named = " and ".join(name for name in tried if name) or "no file"
    raise CheckpointError(
        f"the pretrained weights of {spec.backbone} that the run was trained with ({spec.weights}) are not to be found "
        f"(looked at: {named}); pass the file with --weights PATH"
    )


def _radiometry(scaling: dict[str, Tensor], folder: Path, spec: RunSpec, bands: int) -> Radiometry:
    if spec.training.radiometry == "minmax":
        return MinMax()
    if set(scaling) != {"mean", "std"}:
        raise CheckpointError(f"{folder / ADAPTER} is damaged: it lacks the source's statistics; run it again")
    mean, std = scaling["mean"].flatten(), scaling["std"].flatten()
    if not len(mean) == len(std) == bands or not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise CheckpointError(
            f"{folder / ADAPTER} is damaged: its statistics of the source are not those of {bands} bands"
        )
    return SourceStatistics(mean, std)
