"""Recipes of pretraining: what a YAML file asks for, and fresh simulated archives for it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError, first_problem
from spectral_tl_bench.utils.validation import LARGEST_SEED, Value, names_yaml, read_mapping

SIMULATED = ("whuohs", "dfc2020", "mts12")


class Recipe(Value):
    """What to pretrain on what, apart from archives on a disk.

    Attributes:
        backbone: Registered name, or ``file.py:NAME``.
        simulated: Archives that are simulated for it, where no real ones are named.
        simulated_seed: Draws them; 0 is that of the benchmark's own, and refused.
        simulated_tiles: Multiple of the default number of tiles.
        simulated_tile_size: Their side in pixels.
        protocols: Whose source tiles alone may be seen.
        preset: Name of the preset to start from.
        train: Settings to change, by name.
        init: What the blocks start from.
        seed: Seed of every random choice.
    """

    backbone: str
    simulated: tuple[str, ...] = Field(default=SIMULATED, min_length=1)
    simulated_seed: int = Field(default=1, ge=0, le=LARGEST_SEED)
    simulated_tiles: float = Field(default=1.0, gt=0)
    simulated_tile_size: int = Field(default=64, gt=0)
    protocols: tuple[str, ...] = ()
    preset: str | None = None
    train: dict[str, JsonValue] = Field(default_factory=dict)
    init: str = "none"
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)


def shipped_recipes() -> dict[str, Path]:
    """Recipes of the package by name."""
    folder = Path(str(files("spectral_tl_bench.benchmarks"))) / "pretraining"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe(named: str | None, given: dict[str, Any]) -> Recipe:
    """Read a recipe and change what the command line says.

    Args:
        named: A shipped recipe or a YAML file; None where the command line says all.
        given: What the command line says, by field.

    Raises:
        SpectralBenchError: If there is no such recipe, or a field does not suit.
    """
    content: dict[str, Any] = {}
    if named is not None:
        shipped = shipped_recipes()
        if not names_yaml(named) and named not in shipped:
            raise UnknownNameError("recipe", named, shipped, f"there are: {', '.join(shipped)}; or give a YAML file")
        path = Path(named) if names_yaml(named) else shipped[named]
        content = read_mapping(path, "recipe", "docs/pretrain.md shows a complete example", SpectralBenchError)
    train = {**(content.get("train") or {}), **given.pop("train", {})}
    try:
        made = Recipe.model_validate({**content, **given, "train": train})
    except ValidationError as error:
        where = "pretrain" if named is None else named
        raise SpectralBenchError(f"{where}: {first_problem(error)} (docs/pretrain.md explains the fields)") from error
    if made.simulated_seed == 0:
        raise SpectralBenchError("--simulated-seed 0 draws the archives that runs are tested on; choose 1 or more")
    return made
