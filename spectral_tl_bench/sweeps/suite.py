"""Suites: which methods, protocols and seeds are compared, as a YAML file says it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from spectral_tl_bench.methods import method_class
from spectral_tl_bench.runs.method_runner import runner_of
from spectral_tl_bench.runs.plan import Request
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError, first_problem
from spectral_tl_bench.utils.registry import METHODS
from spectral_tl_bench.utils.validation import LARGEST_SEED, Value, names_yaml, read_mapping

_MOST_RUNS = 10_000


class SuiteMethod(Value):
    """A method of a suite, with the options that differ from their defaults."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class SuiteBackbone(Value):
    """A backbone of a suite, with the training settings that it needs and others do not know."""

    name: str
    train: dict[str, Any] = Field(default_factory=dict)


class Suite(Value):
    """What a sweep runs: the product of all lists.

    Attributes:
        title: One line for people.
        methods: "all" installed ones that can be imported, or a list of names and of ``{name, options}``.
        protocols: Names as ``run --protocol`` takes them.
        seeds: Seeds.
        preset: Preset of every run; None is the command's default.
        backbones: Names and ``{name, train}``; empty is the preset's.
        weights: As ``run --weights`` takes them; empty is the backbone's default.
        train: Training settings that differ from the preset's.
        tries: Training settings with the values that each takes in turn, every combination of them.
    """

    title: str
    methods: Literal["all"] | Annotated[tuple[SuiteMethod, ...], Field(min_length=1)]
    protocols: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...] = Field(default=(0,), min_length=1)
    preset: str | None = None
    backbones: tuple[SuiteBackbone, ...] = ()
    weights: tuple[str, ...] = ()
    train: dict[str, Any] = Field(default_factory=dict)
    tries: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)

    @field_validator("methods", "backbones", mode="before")
    @classmethod
    def _names_alone_are_enough(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list):
            return value
        kind: type[SuiteMethod | SuiteBackbone] = SuiteMethod if info.field_name == "methods" else SuiteBackbone
        try:
            # Checked here, so that what is said of a wrong one is not that it is no "all".
            return tuple(kind.model_validate({"name": e} if isinstance(e, str) else e) for e in value)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    @model_validator(mode="after")
    def _can_be_done(self) -> Suite:
        lists = (self.methods, self.protocols, self.seeds, self.backbones, self.weights, *self.tries.values())
        runs = math.prod(len(values) or 1 for values in lists if values != "all")
        if runs > _MOST_RUNS:
            raise ValueError(f"these lists make {runs:,} runs; a suite has at most {_MOST_RUNS:,}")
        return self

    def requests(self, root: Path | None) -> Iterator[Request]:
        """One request for each combination of the lists, and for each protocol that a name stands for."""
        methods = tuple(SuiteMethod(name=n) for n in METHODS.usable()[0]) if self.methods == "all" else self.methods
        backbones: tuple[SuiteBackbone | None, ...] = self.backbones or (None,)
        weights: tuple[str | None, ...] = self.weights or (None,)
        tries = itertools.product(*self.tries.values())
        settings = [{**self.train, **dict(zip(self.tries, values, strict=True))} for values in tries]
        for seed, protocol, method in itertools.product(self.seeds, self.protocols, methods):
            choices = list(itertools.product(settings, backbones, weights))
            runner = runner_of(method_class(method.name))
            if not runner.needs_backbone:
                # One run for all backbones of the suite, with the settings that this kind of method uses.
                training = {k: v for k, v in self.train.items() if runner.settings is None or k in runner.settings}
                choices = [(training, None, None)]
            for training, backbone, weight in choices:
                yield from requests(
                    method.name,
                    protocol,
                    root=root,
                    preset_name=self.preset,
                    backbone=None if backbone is None else backbone.name,
                    weights=weight,
                    seed=seed,
                    options=method.options,
                    training=training if backbone is None else {**training, **backbone.train},
                )


def shipped_suites() -> dict[str, Path]:
    """The installed ``benchmarks/suites/*.yaml`` by name."""
    folder = Path(str(files("spectral_tl_bench.benchmarks"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(name: str) -> Suite:
    """Read a shipped suite by its name, or a YAML file by its path.

    Raises:
        UnknownNameError: If it is neither.
        SpectralBenchError: If the file does not follow the format; the message names the field.
    """
    shipped = shipped_suites()
    if name not in shipped and not names_yaml(name):
        raise UnknownNameError("suite", name, shipped, f"name a YAML file, or one of {', '.join(shipped)}")
    return read_suite(shipped.get(name, Path(name)))


def read_suite(path: Path) -> Suite:
    """Read a suite's YAML file.

    Raises:
        SpectralBenchError: If it is missing, no YAML, or does not follow the format; the message names the field.
    """
    content = read_mapping(path, "suite", "docs/runs.md shows a complete example", SpectralBenchError)
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise SpectralBenchError(f"{path}: {first_problem(error)} (docs/runs.md explains the format)") from error
