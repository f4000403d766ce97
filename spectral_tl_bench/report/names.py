"""What rows are called, and how a row that a user names is found again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spectral_tl_bench.config.presets import DEFAULT_BACKBONE, PRESETS, WITHOUT_BACKBONE, training_without_backbone
from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.report.summary import Group

COMPARATOR = "frozen"
"""What every row is compared with, fixed before anyone looks: the pretrained features as they are."""
REFERENCE_BASELINE = "pixel_forest"
"""The simplest thing that works; rows that it beats are marked."""
DIGITS_OF_WEIGHTS = 14
"""So much of the digest of weights is shown: ``sha256:`` and seven digits."""

_OF_THE_METHOD: dict[str, Any] = {
    "method": "-",
    "method_options": {},
    "method_defaults": (),
    "method_source": None,
    "stage1": None,
    "seed": 0,
}


def assignments(values: Mapping[str, Any]) -> str:
    """Settings as text: ``name=value`` by name, with commas."""
    texts = {k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in values.items()}
    return ", ".join(f"{name}={text}" for name, text in sorted(texts.items()))


def changes(spec: RunSpec) -> str:
    """How a run's training differs from its preset as it is now, as :func:`assignments`."""
    if spec.backbone == WITHOUT_BACKBONE:
        preset = training_without_backbone(PRESETS["reference" if spec.training.scoring == "reference" else "quick"])
        usual_values = preset.model_dump()
    else:
        usual_values = PRESETS[spec.preset].model_dump() if spec.preset in PRESETS else {}
    return assignments({k: v for k, v in spec.training.model_dump().items() if usual_values.get(k) != v})


def usual(values: Iterable[str]) -> str | None:
    """The most frequent value, None where two are equally frequent or there is none."""
    ranked = Counter(values).most_common(2)
    return ranked[0][0] if len(ranked) == 1 or (ranked and ranked[0][1] > ranked[1][1]) else None


def labels(specs: Sequence[RunSpec]) -> list[str]:
    """Name rows: the method, and the options in which it differs from most rows of that method."""
    options = [{k: assignments({k: v}).partition("=")[2] for k, v in spec.method_options.items()} for spec in specs]
    shared: dict[str, dict[str, str | None]] = {}
    for method in {spec.method_name for spec in specs}:
        alike = [own for own, spec in zip(options, specs, strict=True) if spec.method_name == method]
        keys = {key for own in alike for key in own}
        shared[method] = {key: usual(own[key] for own in alike if key in own) for key in keys}
    names = []
    for spec, own in zip(specs, options, strict=True):
        shown = [f"{k}={v}" for k, v in sorted(own.items()) if v != shared[spec.method_name][k]]
        names.append(f"{spec.method_name} ({', '.join(shown)})" if shown else spec.method_name)
    return names


def titles(specs: Sequence[RunSpec], names: Sequence[str]) -> list[str]:
    """Name rows so that they can be told apart without other columns.

    Behind the rows' ``names``, those of :func:`labels`, stand in brackets: a backbone that is not that of most rows;
    weights that are not those of most rows of that backbone, by their file's name where no other file has it, and
    random ones wherever there are pretrained ones; and where this leaves rows of one name that trained differently, the
    settings of those that are not like most of them.
    """
    backbone = usual(spec.backbone for spec in specs if spec.backbone != WITHOUT_BACKBONE)
    weights = {}
    for name in {spec.backbone for spec in specs}:
        found = [spec.weights for spec in specs if spec.backbone == name]
        pretrained = [one for one in found if one != "none"]
        weights[name] = usual(pretrained or found)
    files = {(spec.weights_file, spec.weights) for spec in specs if spec.weights_file is not None}
    of_a_name = Counter(name for name, _ in files)
    named: list[tuple[str, ...]] = []
    for spec, label in zip(specs, names, strict=True):
        parts = [spec.backbone] if spec.backbone not in (backbone, WITHOUT_BACKBONE) else []
        if spec.weights != weights[spec.backbone]:
            alone = spec.weights_file if spec.weights_file and of_a_name[spec.weights_file] == 1 else None
            parts.append(f"weights={alone or spec.weights[:DIGITS_OF_WEIGHTS]}")
        named.append((label, *parts))
    settings = [(spec.preset, changes(spec)) for spec in specs]
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for so_far, own in zip(named, settings, strict=True):
        alike.setdefault(so_far, []).append(own)
    most = {so_far: [usual(column) for column in zip(*found, strict=True)] for so_far, found in alike.items()}
    result = []
    for so_far, own in zip(named, settings, strict=True):
        label, *parts = so_far
        parts += [value for value, common in zip(own, most[so_far], strict=True) if value and value != common]
        result.append(f"{label} [{', '.join(parts)}]" if parts else label)
    return result


def _all_but_the_method(spec: RunSpec) -> str:
    return spec.model_copy(update=_OF_THE_METHOD).digest


def _all_but_the_method_and_its_rate(spec: RunSpec) -> str:
    # Each method has the learning rate that suits it, as it has its options.
    training = spec.training.model_copy(update={"learning_rate": 1.0})
    return _all_but_the_method(spec.model_copy(update={"training": training}))


def find(name: str, groups: Sequence[Group], names: Sequence[str]) -> list[Group]:
    """Find the rows that a user names.

    Args:
        name: A method, a row's name with its options, or a row's id.
        groups: All rows.
        names: What they are called, from :func:`labels`.
    """
    for wanted in (
        [g for g in groups if g.identity == name],
        [g for g, label in zip(groups, names, strict=True) if label == name],
        [g for g in groups if g.spec.method_name == name],
    ):
        if wanted:
            return wanted
    return []


def counterpart(group: Group, candidates: Sequence[Group]) -> Group | None:
    """The one candidate that differs from a row in the method alone; None where there is none, or more than one.

    A learning rate may differ too, where no candidate has the row's: each method has one that suits it. A model without
    a backbone has none to share: it is compared with the only candidate on its tiles, or with that of the preset's own
    backbone, pretrained.
    """
    same_tiles = [c for c in candidates if c.runs[0].tiles == group.runs[0].tiles and c.identity != group.identity]
    if len(same_tiles) == 1 and WITHOUT_BACKBONE in (group.spec.backbone, same_tiles[0].spec.backbone):
        return same_tiles[0]
    if group.spec.backbone == WITHOUT_BACKBONE:
        own = [c for c in same_tiles if c.spec.backbone == DEFAULT_BACKBONE.get(c.spec.preset)]
        pretrained = [c for c in own if c.spec.weights != "none"]
        return pretrained[0] if len(pretrained) == 1 else None
    for of in (_all_but_the_method, _all_but_the_method_and_its_rate):
        alike = [c for c in same_tiles if of(c.spec) == of(group.spec)]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None
