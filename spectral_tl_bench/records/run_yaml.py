"""``run.yaml``: what repeats a run, and where its inputs were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.utils.errors import RecordError, first_problem
from spectral_tl_bench.utils.files import write_bytes
from spectral_tl_bench.utils.validation import Value, read_mapping

CONFIG = "run.yaml"
NAMED_WEIGHTS = ("none", "hub", "embedded")
"""Weights that are no file of the user's."""


class Where(Value):
    """What a run needs to find its inputs again and what does not change its result.

    Attributes:
        root: Folder of the archive, None for a simulated one.
        protocol_file: The user's protocol file, None for a shipped protocol.
        weights: "none", "hub", "embedded", or a file of pretrained weights.
        stage1: File of reconstruction-stage weights.
    """

    root: Path | None = None
    protocol_file: Path | None = None
    weights: str | None = None
    stage1: Path | None = None

    def absolute(self) -> Where:
        """The same places, wherever a later command runs."""

        def resolved(path: Path | None) -> Path | None:
            return None if path is None else path.expanduser().resolve()

        named = self.weights in (None, *NAMED_WEIGHTS)
        return Where(
            root=resolved(self.root),
            protocol_file=resolved(self.protocol_file),
            weights=self.weights if named else str(resolved(Path(str(self.weights)))),
            stage1=resolved(self.stage1),
        )


class _Config(Value):
    spec: RunSpec
    where: Where = Where()


def write_run_yaml(folder: Path, spec: RunSpec, where: Where | Mapping[str, Any]) -> None:
    """Write ``run.yaml``, which repeats the run.

    Args:
        folder: The run's folder.
        spec: What to run.
        where: Where its inputs are.

    Raises:
        RecordError: If it cannot be written.
    """
    write_bytes(folder / CONFIG, run_yaml(spec, where).encode())


def run_yaml(spec: RunSpec, where: Where | Mapping[str, Any]) -> str:
    """What ``run.yaml`` says of a run."""
    config = _Config(spec=spec, where=where if isinstance(where, Where) else Where(**where))
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return f"# Repeat this run: spectral-bench run --config {CONFIG}\n{text}"


def read_run_yaml(path: Path) -> tuple[RunSpec, Where]:
    """Read what :func:`write_run_yaml` wrote.

    Raises:
        RecordError: If it cannot be read, has an unknown key, or lacks or mistypes one; the message names it.
    """
    content = read_mapping(path, "run configuration", f"every run's folder has a complete {CONFIG}", RecordError)
    try:
        config = _Config.model_validate(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {first_problem(error)}") from error
    return config.spec, config.where
