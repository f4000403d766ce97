"""Where training settings come from: a preset, and what a user changes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError, first_problem

_STANDARD = TrainingSpec(
    image_size=224,
    batch_size=32,
    reconstruction_batch_size=24,
    reconstruction_steps=25_000,
    segmentation_steps=45_000,
    learning_rate=1e-4,
    reconstruction_learning_rate=1e-4,
    decoder_channels=512,
    neck_channels=1024,
    reconstruction_decoder_width=512,
    reconstruction_decoder_depth=8,
    reconstruction_decoder_heads=16,
    validations=15,
)

PRESETS: dict[str, TrainingSpec] = {
    "quick": TrainingSpec(
        image_size=64,
        batch_size=8,
        reconstruction_batch_size=8,
        reconstruction_steps=40,
        segmentation_steps=120,
        learning_rate=2e-3,
        decoder_learning_rate=4e-3,
        reconstruction_learning_rate=1e-3,
        tokenizer_learning_rate_factor=0.1,
        patch_embedding_step=0.005,
        warmup_fraction=0.1,
        # Cross-entropy alone does not get to the rare classes in so few steps.
        loss="cross_entropy_lovasz",
        # In so few steps UPerNet learns neither the task nor what the backbone knows of it (docs/recipes.md).
        decoder="mlp",
        decoder_channels=128,
        neck_channels=64,
        reconstruction_decoder_width=96,
        reconstruction_decoder_depth=2,
        reconstruction_decoder_heads=3,
        validations=4,
        # So few steps do not get as far as overfitting; interpolated rotations would only slow them down.
        augmentation=False,
    ),
    "standard": _STANDARD,
    "reference": _STANDARD.model_copy(
        update={
            "resolution": "resize",
            "schedule": "constant",
            "warmup_fraction": 0.0,
            "radiometry": "minmax",
            "selection": "last",
            "segmentation_beta2": 0.95,
            "decoder_dropout": 0.1,
            "decoder_norm_eps": 1e-6,
            "neck_upsampling": "bilinear",
            "rotation_degrees": 90.0,
            "scoring": "reference",
        }
    ),
}
"""Training by preset: first contact, our leak-free set-up, and the published one (Zhang et al., arXiv 2508.01731)."""

DEFAULT_BACKBONE: dict[str, str] = {"quick": "vit_micro", "standard": "scalemae_l", "reference": "scalemae_l"}
"""Backbone by preset, where the user names none."""


def preset(name: str) -> TrainingSpec:
    """Look a preset up.

    Args:
        name: "quick", "standard" or "reference".

    Raises:
        UnknownNameError: If there is no such preset.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS, f"there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def override(training: TrainingSpec, assignments: Mapping[str, Any]) -> TrainingSpec:
    """Change some fields, as ``--train name=value`` does.

    Args:
        training: The values to start from.
        assignments: New values by field; text is converted to the field's type, "none" to None where that is one.

    Returns:
        A new value, validated as a whole.

    Raises:
        UnknownNameError: If a field does not exist; names the nearest.
        SpectralBenchError: If a value does not suit its field, or the fields do not fit together.
    """
    known = list(TrainingSpec.model_fields)
    for name in assignments:
        if name not in known:
            raise UnknownNameError("training option", name, known, f"the options are: {', '.join(known)}")
    given = {
        # Text that means that nothing is set, where that is possible.
        name: None if value == "none" and TrainingSpec.model_fields[name].default is None else value
        for name, value in assignments.items()
    }
    try:
        changed = TrainingSpec.model_validate({**training.model_dump(), **given})
    except ValidationError as error:
        raise SpectralBenchError(f"training option {first_problem(error)}") from error
    for registry, name in changed.seams():
        registry.require(name)
    return changed


WITHOUT_BACKBONE = "none"
"""Backbone and preset of a run whose model has no backbone."""

SETTINGS_WITHOUT_BACKBONE = ("label_fraction", "held_out_fraction", "held_out_rule", "scoring")
"""What a run without a backbone takes from its training settings; all others say how a network trains."""


def training_without_backbone(training: TrainingSpec) -> TrainingSpec:
    """Keep what determines the result of a run without a backbone, so that the same run has one digest.

    Args:
        training: Any preset, with what a user changed.
    """
    kept = {name: getattr(training, name) for name in SETTINGS_WITHOUT_BACKBONE}
    if training.scoring == "reference":
        kept |= {"resolution": "resize", "image_size": training.image_size}
    return PRESETS["quick"].model_copy(update={**kept, "selection": "last"})
