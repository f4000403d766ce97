"""What a run and the rows of its table are called."""

from __future__ import annotations

from spectral_tl_bench.config.presets import WITHOUT_BACKBONE
from spectral_tl_bench.config.spec import LabelCount, RunSpec

ALL_TARGETS, WORST, HELD_OUT, GAP = "all targets", "worst", "held-out source", "gap to source"
SIMULATED = "SIMULATED"

OTHER_BANDS = {"resampled": "target bands resampled", "wavelengths": "target bands by wavelength"}
"""What was done about bands of the target that are not the source's."""


def heading(spec: RunSpec) -> str:
    """What ran on what, in one line; begins with SIMULATED where the tiles were simulated."""
    details = [] if spec.backbone == WITHOUT_BACKBONE else [spec.backbone, spec.preset]
    details.append(f"seed {spec.seed}")
    if spec.labels is not None:
        details.append(labels_used(spec.labels))
    if spec.training.scoring != "native":
        details.append(f"{spec.training.scoring} scoring")
    if spec.other_bands is not None:
        details.append(OTHER_BANDS[spec.other_bands])
    version = "" if spec.protocol_version == 1 else f" version {spec.protocol_version}"
    text = f"{spec.method_name} on {spec.protocol}{version} ({', '.join(details)})"
    return f"{SIMULATED}: {text}" if spec.simulated else text


def labels_used(labels: LabelCount) -> str:
    """How many labels a run trains on, in words."""
    return f"labels of {labels.tiles} tiles, {100 * labels.share:.3g} % of the training area"
