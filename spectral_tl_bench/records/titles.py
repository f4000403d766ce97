"""What a run and the rows of its table are called."""

from __future__ import annotations

from spectral_tl_bench.config.presets import WITHOUT_BACKBONE
from spectral_tl_bench.config.spec import RunSpec

ALL_TARGETS, WORST, HELD_OUT, GAP = "all targets", "worst", "held-out source", "gap to source"
SIMULATED = "SIMULATED"

OTHER_BANDS = {"resampled": "target bands resampled", "wavelengths": "target bands by wavelength"}
"""What was done about bands of the target that are not the source's."""


def heading(spec: RunSpec) -> str:
    """What ran on what, in one line; begins with SIMULATED where the tiles were simulated."""
    details = [] if spec.backbone == WITHOUT_BACKBONE else [spec.backbone, spec.preset]
    details.append(f"seed {spec.seed}")
    if spec.training.scoring != "native":
        details.append(f"{spec.training.scoring} scoring")
    if spec.other_bands is not None:
        details.append(OTHER_BANDS[spec.other_bands])
    text = f"{spec.method_name} on {spec.protocol} ({', '.join(details)})"
    return f"{SIMULATED}: {text}" if spec.simulated else text
