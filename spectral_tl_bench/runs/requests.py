"""What a user asks for: from the options of a command, a suite or an earlier run to one request for each protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_tl_bench.config.presets import (
    DEFAULT_BACKBONE,
    SETTINGS_WITHOUT_BACKBONE,
    WITHOUT_BACKBONE,
    override,
    preset,
    training_without_backbone,
)
from spectral_tl_bench.config.protocols import Protocol, load_protocols
from spectral_tl_bench.config.spec import RunChoices, RunSpec, TrainingSpec
from spectral_tl_bench.records.run_yaml import Where, read_run_yaml
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.validation import names_yaml


@dataclass(frozen=True)
class Request:
    """A run before its inputs are opened.

    Attributes:
        protocol: What to train and test on.
        choices: Method, backbone, training, seed.
        where: Where the inputs are; without a root the embedded simulated archive is meant.
        recorded: What an earlier run recorded that this one repeats.
        assigned: Training settings that the user typed; all where it repeats a run. Others may follow the tiles.
    """

    protocol: Protocol
    choices: RunChoices
    where: Where
    recorded: RunSpec | None = None
    assigned: frozenset[str] = frozenset(TrainingSpec.model_fields)

    @property
    def label(self) -> str:
        """What distinguishes it among others, in one line."""
        choices = self.choices
        options = "".join(f" {name}={value}" for name, value in choices.method_options.items())
        return f"{choices.method}{options} on {self.protocol.name}, {choices.backbone}, seed {choices.seed}"


def protocol_file(name: str) -> Path | None:
    """The user's protocol file where a protocol is named by one, with or without ``:member``."""
    path = name.partition(":")[0]
    return Path(path) if names_yaml(path) else None


def default_preset(root: Path | None) -> str:
    """The preset where the user names none: the full size only where it can be trained in reasonable time."""
    if root is None:
        return "quick"
    import torch

    return "standard" if torch.cuda.is_available() else "quick"


def _check_without_backbone(method: str, given: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Refuse what a model without a backbone would silently do without."""
    for option, value in given.items():
        if value is not None:
            raise SpectralBenchError(f"{method} has no backbone: leave {option} out")
    known = (*SETTINGS_WITHOUT_BACKBONE, "resolution", "image_size")
    for setting in training:
        if setting not in known:
            raise SpectralBenchError(
                f"{method} has no training setting {setting}, only {', '.join(SETTINGS_WITHOUT_BACKBONE)}; leave it out"
            )


def requests(
    method: str | None,
    protocol: str | None,
    *,
    root: Path | None = None,
    preset_name: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    stage1: Path | None = None,
) -> list[Request]:
    """What options ask for; None stands for what nobody said.

    Args:
        method: Registered name or ``file.py:ClassName``.
        protocol: ``group/member``, ``group``, ``all``, or a protocol file.
        root: Folder of the archive.
        preset_name: Preset; by default that of the data and the machine.
        backbone: Name; by default the preset's.
        weights: "none", "hub", "embedded" or a file; by default the backbone's.
        seed: Seed of every random choice.
        options: The method's hyper-parameters that differ from their defaults.
        training: Training settings that differ from the preset's.
        stage1: Weights of an earlier reconstruction stage.

    Returns:
        One request for each protocol meant.

    Raises:
        SpectralBenchError: If an option is missing or does not suit.
    """
    from spectral_tl_bench.backbones import backbone_entry
    from spectral_tl_bench.methods import PixelModel, method_class
    from spectral_tl_bench.runs.defaults import training_of

    if method is None or protocol is None:
        raise SpectralBenchError("name what to run: --method and --protocol, or --config run.yaml")
    name = default_preset(root) if preset_name is None else preset_name
    usual = preset(name)
    if issubclass(method_class(method), PixelModel):
        given = {"--backbone": backbone, "--weights": weights, "--stage1": stage1}
        _check_without_backbone(method, given, training or {})
        settings = training_without_backbone(override(usual, training or {}))
        backbone, weights, name = WITHOUT_BACKBONE, "none", WITHOUT_BACKBONE
    else:
        backbone = DEFAULT_BACKBONE[name] if backbone is None else backbone
        weights = backbone_entry(backbone).default_weights if weights is None else weights
        settings = training_of(name, method, backbone, training or {})
    choices = RunChoices(
        method=method,
        method_options=dict(options or {}),
        training=settings,
        backbone=backbone,
        preset=name,
        seed=seed,
    )
    where = Where(root=root, protocol_file=protocol_file(protocol), weights=weights, stage1=stage1)
    assigned = frozenset(training or {})
    return [Request(meant, choices, where, assigned=assigned) for meant in load_protocols(protocol)]


def repeated(config: Path, root: Path | None) -> Request:
    """The request that an earlier run's ``run.yaml`` was.

    Args:
        config: The file.
        root: Folder of the archive, where it has moved.

    Raises:
        SpectralBenchError: If the file, or what it names, cannot be read.
    """
    spec, where = read_run_yaml(config)
    name = spec.protocol
    if where.protocol_file is not None:
        member = spec.protocol.partition("/")[2]
        name = f"{where.protocol_file}:{member}" if member else str(where.protocol_file)
    (protocol,) = load_protocols(name)
    choices = RunChoices.model_validate(spec.model_dump(include=set(RunChoices.model_fields)))
    if root is not None:
        where = where.model_copy(update={"root": root})
    return Request(protocol, choices, where.model_copy(update={"weights": where.weights or spec.weights}), spec)
