"""Values that are checked: the base of every validated model, and YAML and JSON that anybody may have written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from spectral_tl_bench.utils.errors import SpectralBenchError

LARGEST_SEED = 2**32 - 1
"""NumPy and Lightning take no larger seed."""

_YAML_SUFFIXES = (".yaml", ".yml")

_DEEPEST = 64
"""Levels of lists and mappings; what this project writes has six."""
_MOST_NODES = 200_000
"""Values of a YAML file, those that an alias repeats counted each time."""
_MOST_BYTES = 16 * 2**20
_LONGEST_NUMBER = 400
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""What no file system, table or terminal can write: NUL, and halves of characters."""

# PyYAML's constructors let through whatever int(), date() and their like raise.
_NO_YAML = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Value(BaseModel):
    """A value that is validated, never changes, and refuses unknown keys and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, nesting without end, and a file that aliases make larger than it looks."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, and count it with all that is below it."""
        repeated = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        before = self._nodes
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, _too_deep(), mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if repeated and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias that contains itself", mark)
        self._nodes += self._sizes[id(node)] if repeated else 1
        self._sizes.setdefault(id(node), self._nodes - before)
        if self._nodes > _MOST_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {_MOST_NODES} values, aliases counted", mark)
        if isinstance(node, yaml.ScalarNode) and (problem := _strange(node)):
            raise yaml.composer.ComposerError(None, None, problem, mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping; of a key given twice YAML's own reader takes the last without a word."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node


class _TextLoader(_Loader):
    """Leaves every plain value as the text that stands in the file: ``06`` stays "06", ``NO`` stays "NO"."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML declares it for instances
        "<": [entry for entry in _Loader.yaml_implicit_resolvers["<"] if entry[0] == "tag:yaml.org,2002:merge"]
    }


def _strange(node: yaml.ScalarNode) -> str | None:
    if _UNWRITABLE.search(node.value):
        return "a character that cannot be written"
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > _LONGEST_NUMBER:
        return f"a number of {len(node.value)} digits"
    return None


def names_yaml(name: str) -> bool:
    """Whether what a user typed is the path of a YAML file rather than a name."""
    return name.endswith(_YAML_SUFFIXES)


def _read_text(path: Path, what: str, error_type: type[SpectralBenchError]) -> str:
    try:
        size = path.stat().st_size
        # A pipe or a device might never end.
        if not path.is_file():
            reason = "it is a folder" if path.is_dir() else "it is no ordinary file"
        elif size > _MOST_BYTES:
            reason = f"it is {size / 2**20:.0f} MiB large"
        else:
            return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise error_type(f"cannot read {what} {path}: {reason}") from error
    raise error_type(f"cannot read {what} {path}: {reason}")


def read_mapping(
    path: Path, what: str, see: str, error_type: type[SpectralBenchError], *, as_text: bool = False
) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file.
        what: What kind of file it is, for the error ("protocol file").
        see: Where to find a complete example, for the error.
        error_type: Raised when the file is missing, unreadable, no YAML, nested without end or no mapping.
        as_text: Leave every plain value as the text in the file; otherwise YAML's types.

    Returns:
        The mapping, not validated any further.
    """
    text = _read_text(path, what, error_type)
    try:
        # Both are SafeLoaders: only plain values come out.
        content = yaml.load(text, Loader=_TextLoader if as_text else _Loader)
    except _NO_YAML as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or f"not valid YAML ({error})"
        raise error_type(f"{path} is not readable as YAML{line}: {problem}") from error
    if not isinstance(content, dict):
        raise error_type(f"{path} is empty or not a mapping; {see}")
    return content


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that nests no deeper than a program can follow.

    Raises:
        ValueError: If it is no JSON, or nested too deep.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    level = [content]
    for _ in range(_DEEPEST):
        if _UNWRITABLE.search("".join([value for value in level if isinstance(value, str)])):
            raise ValueError("it holds a character that cannot be written")
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _inside(value)]
        if not level:
            return content
    raise ValueError(_too_deep())


def _inside(value: dict[Any, Any] | list[Any]) -> list[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def _too_deep() -> str:
    return f"nested more than {_DEEPEST} levels deep"
