"""Values that are checked: the base of every validated model, and YAML that a user wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from spectral_tl_bench.errors import SpectralBenchError

_YAML_SUFFIXES = (".yaml", ".yml")


class Value(BaseModel):
    """A value that is validated, never changes, and refuses unknown keys and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def names_yaml(name: str) -> bool:
    """Whether what a user typed is the path of a YAML file rather than a name."""
    return name.endswith(_YAML_SUFFIXES)


def read_mapping(path: Path, what: str, see: str, error_type: type[SpectralBenchError]) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file.
        what: What kind of file it is, for the error ("protocol file").
        see: Where to find a complete example, for the error.
        error_type: Raised when the file is missing, unreadable, no YAML or no mapping.

    Returns:
        The mapping, not validated any further.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise error_type(f"cannot read {what} {path}: {error}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise error_type(f"{path} is not readable as YAML{line}: {problem}") from error
    if not isinstance(content, dict):
        raise error_type(f"{path} is empty or not a mapping; {see}")
    return content
