"""Everything that can be extended, by name: what comes with the package, what a plugin registers, a user's own file.

Nothing is imported before it is asked for, so that names are listed without loading torch. A plugin that cannot be
imported spoils its own name alone.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError


class PluginError(SpectralBenchError):
    """A plugin, or a user's own file, that cannot be used; the message names it."""


def _installed(group: str) -> tuple[EntryPoint, ...]:
    """Entry points of a group. Reading those of all packages takes 20 ms: again only after something was installed."""
    return _read_entry_points(tuple((folder, _changed(folder)) for folder in sys.path)).get(group, ())


@lru_cache(maxsize=1)
def _read_entry_points(folders: tuple[tuple[str, int], ...]) -> dict[str, tuple[EntryPoint, ...]]:
    points = entry_points()
    ours = (group for group in points.groups if group.startswith("spectral_tl_bench."))
    return {group: tuple(points.select(group=group)) for group in ours}


def _changed(folder: str) -> int:
    """When something was last put into a folder or taken out of it."""
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:
        return 0


class Registry:
    """The things of one kind by name.

    A name is one that comes with the package, one of another package's entry points, or ``path/to/file.py:NAME``.
    """

    def __init__(self, kind: str, hint: str, built_in: Mapping[str, Any] | None = None) -> None:
        """Start with what comes with the package.

        Args:
            kind: What is registered, in the singular ("method"). The entry-point group is
                ``spectral_tl_bench.<kind>s``.
            hint: What to do about an unknown name, for the error.
            built_in: Names to what comes with the package, or to its ``module:attribute`` as text, imported on demand.
        """
        self.kind = kind
        self.hint = hint
        self.built_in = dict(built_in or {})
        self.group = f"spectral_tl_bench.{kind.replace('loss', 'losse')}s"

    def _plugins(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name; more than one where packages disagree about what a name means."""
        found: dict[str, list[EntryPoint]] = {}
        for point in _installed(self.group):
            others = found.setdefault(point.name, [])
            if point.value not in [other.value for other in others]:
                others.append(point)
        return found

    def names(self) -> list[str]:
        """Every name: those of this package in their own order, then those of plugins."""
        return [*self.built_in, *sorted(set(self._plugins()) - set(self.built_in))]

    def require(self, name: str) -> None:
        """Check that a name stands for something, without importing it.

        Raises:
            UnknownNameError: If nothing has that name, nor is it a file's.
        """
        if split_file(name)[0] is None and name not in self.names():
            raise UnknownNameError(self.kind, name, self.names(), self.hint)

    def load(self, name: str) -> Any:
        """Import what a name means.

        Args:
            name: A name, or ``path/to/file.py:NAME``.

        Raises:
            UnknownNameError: If nothing has that name.
            PluginError: If it cannot be imported, or two packages define it.
        """
        file, attribute = split_file(name)
        if file is not None:
            return load_file(file, attribute, self.kind)
        points = self._plugins().get(name, [])
        ours = [self.built_in[name]] if name in self.built_in else []
        self.require(name)
        if len(ours) + len(points) > 1:
            by = [*("this package" for _ in ours), *(point.value for point in points)]
            raise PluginError(f"{self.kind} {name!r} is defined twice, by {' and by '.join(by)}; uninstall one")
        value = ours[0] if ours else points[0].value
        if not isinstance(value, str):
            return value
        module, _, attribute = value.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # whatever a plugin raises is its own fault, not that of the others
            raise PluginError(
                f"{self.kind} {name!r} ({value}) cannot be imported: {type(error).__name__}: {error}; repair or "
                "uninstall that package"
            ) from error

    def usable(self) -> tuple[list[str], list[str]]:
        """Names that can be imported, and one line about each that cannot."""
        names, problems = [], []
        for name in self.names():
            try:
                self.load(name)
            except PluginError as error:
                problems.append(str(error))
            else:
                names.append(name)
        return names, problems


def split_file(name: str) -> tuple[Path | None, str]:
    """Split ``path/to/file.py:NAME``; the path is None where the text is a name."""
    path, separator, attribute = name.rpartition(":")
    return (Path(path), attribute) if separator and path.endswith(".py") else (None, name)


def short_name(name: str) -> str:
    """What is shown of a name: ``file.py:BiasTuning`` becomes ``BiasTuning``."""
    return split_file(name)[1]


def source_digest(name: str) -> str | None:
    """Digest of a user's file, so that an edited file is another run; None for what is installed."""
    file, _ = split_file(name)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file is not None and file.is_file() else None


def load_file(path: Path, attribute: str, kind: str) -> Any:
    """Import one name from a user's file.

    Args:
        path: The Python file.
        attribute: The name that it defines.
        kind: What it should be, for the error.

    Raises:
        PluginError: If there is no such file or name, or the file fails on import.
    """
    if not path.is_file():
        raise PluginError(f"there is no {kind} file {path}; give a name or path/to/file.py:NAME")
    # The name depends on the path, so that two files of the same name do not shadow one another.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module_name = f"spectral_tl_bench_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise PluginError(f"{path} fails on import: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise PluginError(f"{path} defines no {attribute}")
    return getattr(module, attribute)


METHODS = Registry("method", "run `spectral-bench methods` to see them all")
"""Built-in methods are entry points too (pyproject.toml), found exactly as a stranger's."""

DATASETS = Registry(
    "dataset",
    "run `spectral-bench datasets` to see them all",
    {
        "whuohs": "spectral_tl_bench.datasets.archives.whuohs:WHUOHS",
        "dfc2020": "spectral_tl_bench.datasets.archives.dfc2020:DFC2020",
        "mts12": "spectral_tl_bench.datasets.archives.mts12:MTS12",
        "ohs_sentinel2": "spectral_tl_bench.datasets.archives.ohs_sentinel2:OHSSentinel2",
        "tiles": "spectral_tl_bench.datasets.user_tiles.tiles:Tiles",
    },
)
"""Subclasses of ``datasets.base.TileDataset``."""

DECODERS = Registry(
    "decoder",
    "docs/architecture.md lists them and says how to add one",
    {
        "upernet": "spectral_tl_bench.training.decoders.upernet:UPerNet",
        "mlp": "spectral_tl_bench.training.decoders.mlp:MLP",
    },
)
"""Called with the backbone, the number of classes and the training settings; see ``decoders/segmenter.py``."""

LOSSES = Registry(
    "loss",
    "docs/architecture.md lists them and says how to add one",
    {
        "cross_entropy": "spectral_tl_bench.training.losses:cross_entropy",
        "cross_entropy_lovasz": "spectral_tl_bench.training.losses:cross_entropy_lovasz",
    },
)
"""Functions of logits and mask; see ``tasks/losses.py``."""

SAMPLERS = Registry(
    "sampler",
    "docs/architecture.md lists them and says how to add one",
    {
        "uniform": "spectral_tl_bench.datamodules.samplers:uniform",
        "domain": "spectral_tl_bench.datamodules.samplers:by_domain",
        "class": "spectral_tl_bench.datamodules.samplers:by_class",
    },
)
"""Functions that weigh the source tiles; see ``datamodules/samplers.py``."""
