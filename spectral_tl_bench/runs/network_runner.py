"""Runs of methods that adapt a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.config.presets import DEFAULT_BACKBONE, preset
from spectral_tl_bench.config.spec import RunChoices, TrainingSpec
from spectral_tl_bench.runs.defaults import fitted_to_tiles, training_of
from spectral_tl_bench.runs.launch import require_shares
from spectral_tl_bench.runs.method_runner import MethodRunner
from spectral_tl_bench.runs.plan import Resolved, Selection
from spectral_tl_bench.utils.errors import SpectralBenchError

if TYPE_CHECKING:
    import torch

    from spectral_tl_bench import records
    from spectral_tl_bench.datasets.cross_sensor import OtherBands
    from spectral_tl_bench.methods import Method
    from spectral_tl_bench.runs.estimate import Estimate
    from spectral_tl_bench.runs.plan import Plan, Request
    from spectral_tl_bench.runs.progress_file import ProgressFile
    from spectral_tl_bench.utils.runtime import RuntimeOptions

_STAGES = (("segmentation",), ("reconstruction", "segmentation"))


class NetworkRunner(MethodRunner):
    """Plans and executes runs of :class:`~spectral_tl_bench.methods.Method`."""

    needs_backbone: ClassVar[bool] = True
    keeps_model: ClassVar[bool] = True

    def resolve(self, selection: Selection) -> Resolved:
        """Take backbone and weights from preset and backbone, and settings from preset, method and backbone."""
        preset(selection.preset)
        backbone = DEFAULT_BACKBONE[selection.preset] if selection.backbone is None else selection.backbone
        weights = backbone_entry(backbone).default_weights if selection.weights is None else selection.weights
        training = training_of(selection.preset, selection.method, backbone, selection.training or {})
        return Resolved(selection.preset, backbone, weights, training)

    def require_valid(self, method: Method, request: Request) -> None:
        """Refuse unknown stages, weights for a stage that the method lacks, and settings without effect."""
        choices = request.choices
        stages = tuple(method.stages)
        if stages not in _STAGES:
            raise SpectralBenchError(
                f"{choices.method} has the stages {', '.join(stages) or 'none'}; a method has segmentation, or "
                "reconstruction and then segmentation"
            )
        if request.where.stage1 is not None and "reconstruction" not in stages:
            raise SpectralBenchError(
                f"--stage1 was given, but {choices.method} has no reconstruction stage with these options"
            )
        for name in ("band_tokens", "band_dropping"):
            default = TrainingSpec.model_fields[name].default
            if getattr(choices.training, name) != default and not backbone_entry(choices.backbone).band_tokens:
                raise SpectralBenchError(
                    f"{name} is about backbones with a token for each band of a patch, and {choices.backbone} has one "
                    "for all; leave it out, or take --backbone spectral_mae_micro"
                )
        if choices.training.radiometry == "backbone":
            backbone_entry(choices.backbone).require_normalisation()

    def other_bands(self, method: Method, backbone: str) -> OtherBands:
        """By wavelength where the backbone's own tokenizer knows wavelengths, else resampled."""
        from_wavelengths = method.keeps_tokenizer and backbone_entry(backbone).from_wavelengths
        return "wavelengths" if from_wavelengths else "resampled"

    def fit_to_tiles(
        self, request: Request, training_sides: Sequence[int], all_sides: Sequence[int], simulated: bool
    ) -> tuple[RunChoices, list[str]]:
        """Make windows no larger than most tiles, unless the user named their size."""
        choices = request.choices
        if not simulated:
            fitted = fitted_to_tiles(choices.training, choices.backbone, request.assigned, training_sides)
            choices = choices.model_copy(update={"training": fitted})
        return choices, list(_size_notes(request.choices.training, choices.training, all_sides))

    def require_executable(self, plan: Plan, options: RuntimeOptions, maps: int) -> None:
        """Refuse batches that cannot be divided among the processes."""
        require_shares(plan.spec.training, plan.method.stages, options)  # type: ignore[attr-defined]

    def execute(
        self,
        plan: Plan,
        provenance: records.Provenance,
        folder: Path,
        progress: ProgressFile,
        options: RuntimeOptions,
    ) -> None:
        """Train the stages, select, score and write the record."""
        from spectral_tl_bench.runs.network import NetworkRun

        NetworkRun(plan, provenance, folder, progress, options).run()

    def estimate(self, plan: Plan, device: torch.device) -> Estimate:
        """Count operations and memory, and measure a few steps."""
        from spectral_tl_bench.runs.estimate import estimate

        return estimate(plan, plan.method, device)  # type: ignore[arg-type]


def _size_notes(before: TrainingSpec, training: TrainingSpec, sides: Sequence[int]) -> Iterator[str]:
    """Explain what the size of windows means for smaller tiles."""
    size = training.image_size
    if size != before.image_size:
        yield (
            f"image_size is {size} and not {before.image_size}: half of the training tiles are no larger than "
            f"{size} px or little more (--train image_size=... sets another)"
        )
    smaller = sum(side < size for side in sides)
    if smaller and training.resolution == "native":
        yield (
            f"{smaller} of {len(sides)} tiles are smaller than image_size {size}: they are padded with pixels that "
            "neither train nor count"
        )
