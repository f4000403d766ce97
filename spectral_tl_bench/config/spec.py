"""RunSpec: everything that determines a run's result, as a value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from spectral_tl_bench.utils.hashing import json_digest
from spectral_tl_bench.utils.registry import DECODERS, LOSSES, SAMPLERS, Registry, short_name
from spectral_tl_bench.utils.validation import LARGEST_SEED, Value

StageName = Literal["reconstruction", "segmentation"]
"""Stages of training; reconstruction is masked and needs no labels."""


class StageSettings(Value):
    """What a stage trains with.

    Attributes:
        steps: Optimiser steps.
        batch_size: Tiles per step.
        learning_rate: Peak learning rate.
        betas: AdamW's.
    """

    steps: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]


class TrainingSpec(Value):
    """How a run trains, selects and scores, whatever the method.

    Attributes:
        image_size: Side of the square that the model sees, in pixels of the tile.
        upsample: How many times that square is enlarged before the model, to the nearest multiple of its patch; logits
            come back to the tile's own pixels. On tiles of 10-30 m a patch of 14 or 16 px holds several fields.
        resolution: "native" trains on random windows and scores by sliding windows; "resize" resamples whole tiles.
        batch_size: Tiles per step of segmentation.
        reconstruction_batch_size: Tiles per step of masked reconstruction.
        reconstruction_steps: Optimiser steps of masked reconstruction, for methods that have that stage.
        segmentation_steps: Optimiser steps of segmentation.
        learning_rate: Peak learning rate of segmentation, for what adapts the backbone.
        decoder_learning_rate: The same for neck, decoder and classifier, which start from scratch; None where it is
            ``learning_rate``.
        reconstruction_learning_rate: Peak learning rate of masked reconstruction.
        tokenizer_learning_rate_factor: Factor on ``learning_rate`` and ``reconstruction_learning_rate`` for what turns
            pixels into tokens. A patch embedding adds up hundreds of correlated inputs or more: a rate that suits other
            layers overshoots there. What adds up fewer is held back less (``Tokenizer.relative_learning_rates``).
        patch_embedding_step: Largest learning rate of a patch embedding's kernels, by the root of their mean square.
            AdamW moves every weight by about its rate, and kernels differ in size by a factor of twenty from backbone
            to backbone. None sets no limit.
        segmentation_beta2: The second of AdamW's betas in segmentation; the first is 0.9. Reconstruction has 0.9, 0.95.
        weight_decay: AdamW's, in both stages.
        schedule: Learning rate after the warm-up.
        warmup_fraction: Share of a stage's steps with linearly rising learning rate.
        loss: Registered name: cross_entropy alone, as published, or cross_entropy_lovasz, which cares for rare classes.
        decoder: What turns features into logits, by its registered name.
        decoder_channels: Channels of UPerNet, or of the hidden layer of the MLP.
        neck_channels: Channels of the maps that the neck hands to UPerNet.
        decoder_dropout: Share of the decoder's channels dropped before the classifier in training.
        decoder_norm_eps: What the batch norms of the decoder add to the variance.
        neck_upsampling: How the neck makes maps finer than the tokens: "learned" unfolds each token, "bilinear"
            interpolates between tokens as published.
        reconstruction_decoder_width: Width of the reconstruction decoder's tokens.
        reconstruction_decoder_depth: Its transformer blocks.
        reconstruction_decoder_heads: Its attention heads; must divide the width.
        mask_ratio: Share of patches hidden in masked reconstruction.
        radiometry: Normalise by the source training tiles' statistics, or by each image's own minimum and maximum, then
            those of the whole tile even where it is resized, or as in the backbone's own pretraining where it states
            that.
        validations: How many times the held-out source tiles are scored during segmentation.
        selection: Whether the headline comes from the step best on held-out source tiles, or from the last.
        precision: Lightning's name for the arithmetic.
        accumulation: Into how many parts a step's batch is cut, whose gradients add up: less memory, more time. Batch
            norms and the loss then see a part at a time, so this is another run.
        activation_checkpointing: Whether the blocks' activations are computed again on the way back instead of kept:
            less memory, a third more time, the same numbers, so it is not in the digest.
        band_tokens: Tokens that the bands of a patch become at most, in backbones with a token for each (spectral_mae):
            neighbouring bands share one, and memory grows with their number.
        band_dropping: Share of these tokens that each training step leaves out, the same bands for all patches.
        augmentation: Whether flips and rotations are applied to training tiles.
        rotation_degrees: By how much training tiles are rotated at most, either way. Below 90, by quarter turns too.
        sampler: Registered name: draw training tiles uniform, or balanced by domain or by class.
        label_fraction: Share of the source training tiles' labels that may be used: whole tiles of every sub-domain and
            a window of one more. Smaller shares are among larger ones.
        held_out_fraction: Share of the source tiles kept from training for model selection.
        held_out_rule: "cells" keeps tiles from training that lie within one tile of a held-out one, wherever files tell
            where their tiles lie; "blocks" holds out whole blocks without that.
        scoring: "native" scores at the labels' own resolution; "reference" scores resized labels and leaves out
            predictions of classes absent from the target, as published figures do.
    """

    image_size: int = Field(gt=0)
    upsample: int = Field(default=1, ge=1, le=8)
    resolution: Literal["native", "resize"] = "native"
    batch_size: int = Field(gt=0)
    reconstruction_batch_size: int = Field(gt=0)
    reconstruction_steps: int = Field(gt=0)
    segmentation_steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    decoder_learning_rate: float | None = Field(default=None, gt=0)
    reconstruction_learning_rate: float = Field(gt=0)
    tokenizer_learning_rate_factor: float = Field(default=1.0, gt=0)
    patch_embedding_step: float | None = Field(default=None, gt=0)
    segmentation_beta2: float = Field(default=0.999, gt=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    loss: str = "cross_entropy"
    decoder: str = "upernet"
    decoder_channels: int = Field(gt=0)
    neck_channels: int = Field(gt=0)
    decoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    decoder_norm_eps: float = Field(default=1e-5, gt=0)
    neck_upsampling: Literal["learned", "bilinear"] = "learned"
    reconstruction_decoder_width: int = Field(gt=0)
    reconstruction_decoder_depth: int = Field(gt=0)
    reconstruction_decoder_heads: int = Field(gt=0)
    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    radiometry: Literal["source_statistics", "minmax", "backbone"] = "source_statistics"
    validations: int = Field(gt=0)
    selection: Literal["best", "last"] = "best"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accumulation: int = Field(default=1, ge=1)
    activation_checkpointing: bool = False
    band_tokens: int = Field(default=8, ge=1)
    band_dropping: float = Field(default=0.0, ge=0, lt=1)
    augmentation: bool = True
    rotation_degrees: float = Field(default=10.0, ge=0, le=180)
    sampler: str = "uniform"
    label_fraction: float = Field(default=1.0, gt=0, le=1)
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1)
    held_out_rule: Literal["cells", "blocks"] = "cells"
    scoring: Literal["native", "reference"] = "native"

    @model_validator(mode="after")
    def _fields_fit_together(self) -> TrainingSpec:
        if self.reconstruction_decoder_width % self.reconstruction_decoder_heads:
            raise ValueError(
                f"reconstruction_decoder_heads {self.reconstruction_decoder_heads} does not divide "
                f"reconstruction_decoder_width {self.reconstruction_decoder_width}"
            )
        if self.scoring == "reference" and self.resolution != "resize":
            raise ValueError("scoring=reference scores resized labels, so it needs resolution=resize")
        if self.validations > self.segmentation_steps:
            raise ValueError(f"validations {self.validations} exceeds segmentation_steps {self.segmentation_steps}")
        for name in ("batch_size", "reconstruction_batch_size"):
            if getattr(self, name) % self.accumulation:
                raise ValueError(f"accumulation {self.accumulation} does not divide {name} {getattr(self, name)}")
        return self

    def seams(self) -> tuple[tuple[Registry, str], ...]:
        """What is chosen by a registered name or a user's file, with the registry of each."""
        return (DECODERS, self.decoder), (LOSSES, self.loss), (SAMPLERS, self.sampler)

    def stage(self, name: StageName) -> StageSettings:
        """What one of the two stages trains with."""
        if name == "reconstruction":
            return StageSettings(
                steps=self.reconstruction_steps,
                batch_size=self.reconstruction_batch_size,
                learning_rate=self.reconstruction_learning_rate,
                # As usual for masked autoencoders (He et al., 2022, Table 8).
                betas=(0.9, 0.95),
            )
        return StageSettings(
            steps=self.segmentation_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            betas=(0.9, self.segmentation_beta2),
        )


def _plain(text: str) -> str:
    """The text as one path component: letters, digits, dot, dash and underscore, not starting with a dot."""
    return re.sub(r"^\.+", "", re.sub(r"[^A-Za-z0-9._-]+", "_", text)) or "_"


class RunChoices(Value):
    """What a user chooses for a run, apart from the data.

    Attributes:
        method: Registered name, or ``path/to/file.py:ClassName``.
        method_options: Hyper-parameters of the method.
        backbone: Registered name, or ``path/to/file.py:NAME``.
        preset: Name of the preset that ``training`` started from.
        training: How it trains, selects and scores.
        seed: Seed of every random choice.
    """

    method: str = Field(min_length=1)
    method_options: dict[str, JsonValue] = Field(default_factory=dict)
    backbone: str = Field(min_length=1)
    preset: str
    training: TrainingSpec
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)

    @field_validator("method_options", mode="before")
    @classmethod
    def _options_as_json(cls, value: Any) -> Any:
        """Tuples become lists, so that a specification read back equals the one written."""
        if not isinstance(value, dict):
            raise ValueError("options are names with their values")
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except TypeError as error:
            raise ValueError(f"{error}; options must be numbers, text, booleans or lists of them") from error


class LabelCount(Value):
    """The labels that a run with few of them trains on.

    Attributes:
        tiles: Tiles with a label, whole or in part.
        pixels: Labelled pixels in them.
        share: Area of the labelled parts, by that of all source training tiles.
    """

    tiles: int = Field(ge=1)
    pixels: int = Field(ge=1)
    share: float = Field(gt=0, le=1)


class RunSpec(RunChoices):
    """Everything that determines a run's result; two runs with the same digest are the same run.

    What does not change the result (device, workers, folders) is not in it. Data and pretrained weights enter by
    fingerprint, what is in a user's file by its name and the file's content, so that moving files changes nothing.

    Attributes:
        method_options: Every hyper-parameter of the method, with its resolved value.
        method_defaults: Names of those that have their default.
        method_source: Digest of the method's file, None for an installed method.
        protocol: The protocol's name, ``group/member`` or ``group``.
        protocol_version: Version of the protocol's file.
        protocol_digest: Digest of what the protocol says that trains and scores; see ``Protocol.digest``.
        dataset: Name of the dataset.
        data: Fingerprint of what the files of its tiles hold.
        split: Digest of which tiles train, select and test.
        labels: What ``label_fraction`` came to; None where all labels are used.
        simulated: Whether the archive is simulated; such a run never enters a real leaderboard.
        weights: Fingerprint of the backbone's weights: "none", "hub", or "sha256:..." of a file, embedded or given.
        weights_file: What that file was called when given, without folder and ending: a name for tables, no part of the
            digest.
        stage1: Fingerprint of given reconstruction-stage weights, None when the run trains its own (or needs none).
        other_bands: How the target's bands were shown where they are not the source's: "resampled" to these, or as they
            are, by their "wavelengths"; None where the bands are the same.
        sources: Digests of further files of the user's, by what they define ("backbone", "decoder", "loss" ...).
    """

    method_defaults: tuple[str, ...] = ()
    method_source: str | None = None
    protocol: str = Field(min_length=1)
    protocol_version: int = Field(default=1, ge=1)
    protocol_digest: str
    dataset: str
    data: str
    split: str = ""
    labels: LabelCount | None = None
    simulated: bool
    weights: str = "none"
    weights_file: str | None = None
    stage1: str | None = None
    other_bands: Literal["resampled", "wavelengths"] | None = None
    sources: dict[str, str] = Field(default_factory=dict)

    @property
    def method_name(self) -> str:
        """What the method is called in folder names and tables."""
        return short_name(self.method)

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of method, backbone, decoder, loss and sampler; those of the user's own files begin with their path."""
        return self.method, self.backbone, *(name for _, name in self.training.seams())

    @property
    def digest(self) -> str:
        """First 10 hexadecimal digits of the SHA-256 of what trains and scores, as canonical JSON.

        Settings at their defaults are left out, so that a setting which a later version adds changes no digest. Hence
        a default, once released, stays; a preset may change.
        """
        no_matter = {"preset", "method_defaults", "weights_file"}
        content = self.model_dump(mode="json", exclude_defaults=True, exclude=no_matter)
        options = {k: v for k, v in self.method_options.items() if k not in self.method_defaults}
        content["training"].pop("activation_checkpointing", None)
        content |= {"method": self.method_name, "method_options": options, "backbone": short_name(self.backbone)}
        for seam in self.sources.keys() & content["training"].keys():
            content["training"][seam] = short_name(content["training"][seam])
        return json_digest(content)

    @property
    def protocol_folder(self) -> Path:
        """Where the runs of its protocol lie below the folder of all runs."""
        return Path(*(_plain(part) for part in self.protocol.split("/")))

    @property
    def folder(self) -> Path:
        """Where the run lies below the folder of all runs: ``<protocol>/<method>-<backbone>-s<seed>-<digest>``."""
        backbone = _plain(short_name(self.backbone))
        return self.protocol_folder / f"{_plain(self.method_name)}-{backbone}-s{self.seed}-{self.digest}"
