"""Requests: from the options of a command, a suite or an earlier run to one request for each protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.config.spec import RunChoices
from spectral_tl_bench.records.run_yaml import Where, read_run_yaml
from spectral_tl_bench.runs.method_runner import runner_of
from spectral_tl_bench.runs.plan import Request, Selection
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.trusted_code import require_trusted
from spectral_tl_bench.utils.validation import names_yaml


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
    """Build requests from options; None stands for the default.

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
        One request for each protocol that the name stands for.

    Raises:
        SpectralBenchError: If an option is missing or does not suit.
    """
    from spectral_tl_bench.methods import method_class

    if method is None or protocol is None:
        raise SpectralBenchError("name what to run: --method and --protocol, or --config run.yaml")
    name = default_preset(root) if preset_name is None else preset_name
    selection = Selection(method, name, backbone, weights, stage1, training)
    resolved = runner_of(method_class(method)).resolve(selection)
    choices = RunChoices(
        method=method,
        method_options=dict(options or {}),
        training=resolved.training,
        backbone=resolved.backbone,
        preset=resolved.preset,
        seed=seed,
    )
    where = Where(root=root, protocol_file=protocol_file(protocol), weights=resolved.weights, stage1=stage1)
    assigned = frozenset(training or {})
    return [Request(member, choices, where, assigned=assigned) for member in load_protocols(protocol)]


def repeated(config: Path, root: Path | None, *, trust_code: bool = False) -> Request:
    """The request that an earlier run's ``run.yaml`` was.

    Args:
        config: The file.
        root: Folder of the archive, where it has moved.
        trust_code: Run Python files that the run names even if this user has not run them before.

    Raises:
        SpectralBenchError: If the file, or what it names, cannot be read, or names code that is not trusted.
    """
    spec, where = read_run_yaml(config)
    name = spec.protocol
    if where.protocol_file is not None:
        member = spec.protocol.partition("/")[2]
        name = f"{where.protocol_file}:{member}" if member else str(where.protocol_file)
    (protocol,) = load_protocols(name)
    if not trust_code:
        require_trusted(config, (*spec.plugins, protocol.file.dataset))
    choices = RunChoices.model_validate(spec.model_dump(include=set(RunChoices.model_fields)))
    if root is not None:
        where = where.model_copy(update={"root": root})
    return Request(protocol, choices, where.model_copy(update={"weights": where.weights or spec.weights}), spec)
