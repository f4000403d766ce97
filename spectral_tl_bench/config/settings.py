"""What ``--train`` takes: every training setting with its values, its value in each preset, and what it means."""

from __future__ import annotations

import inspect
import re
import types
import typing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import annotated_types
from pydantic.fields import FieldInfo

from spectral_tl_bench.config.presets import PRESETS
from spectral_tl_bench.config.spec import TrainingSpec

_KINDS = {int: "integer", float: "number", bool: "true or false", str: "text"}
_REGISTRIES = {registry.kind: registry for registry, _ in PRESETS["quick"].seams()}
_BOUNDS = {
    annotated_types.Gt: "above",
    annotated_types.Ge: "from",
    annotated_types.Lt: "below",
    annotated_types.Le: "to",
}


@dataclass(frozen=True)
class Setting:
    """A training setting.

    Attributes:
        name: As ``--train name=value`` takes it.
        values: What it may be, in words.
        presets: Its value by preset, as text.
        meaning: What it does.
    """

    name: str
    values: str
    presets: dict[str, str]
    meaning: str


def settings() -> list[Setting]:
    """Every training setting, in the order of :class:`~spectral_tl_bench.config.spec.TrainingSpec`."""
    meanings = _meanings()
    return [
        Setting(
            name=name,
            values=_values(name, field),
            presets={preset: _as_text(getattr(training, name)) for preset, training in PRESETS.items()},
            meaning=meanings[name],
        )
        for name, field in TrainingSpec.model_fields.items()
    ]


@lru_cache(maxsize=1)
def _meanings() -> dict[str, str]:
    """What the docstring of the specification says of each attribute, in one line each."""
    _, _, attributes = (inspect.getdoc(TrainingSpec) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.+?)(?=^    \w|\Z)", attributes, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()).replace("``", "") for name, text in entries}


def _as_text(value: Any) -> str:
    """A value as ``--train`` takes it; None, which is where nothing is set, as "none"."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(name: str, field: FieldInfo) -> str:
    """What a field takes, in words: names to choose from, or a type with its bounds."""
    if name in _REGISTRIES:
        return f"{', '.join(_REGISTRIES[name].names())}, or file.py:NAME"
    kinds = [field.annotation]
    if isinstance(field.annotation, types.UnionType):
        kinds = list(typing.get_args(field.annotation))
    if typing.get_origin(kinds[0]) is Literal:
        return ", ".join(typing.get_args(kinds[0]))
    words = [_KINDS[typing.cast("type", kinds[0])]]
    for bound in field.metadata:
        for kind, word in _BOUNDS.items():
            if isinstance(bound, kind):
                words.append(f"{word} {getattr(bound, kind.__name__.lower()):g}")
    return " ".join(words) + (", or none" if type(None) in kinds else "")
