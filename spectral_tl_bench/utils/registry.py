"""Everything that can be extended, by name: what comes with the package, plugins, and a user's own file.

Names are listed without importing what they stand for. A plugin that cannot be imported does not affect other names.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from spectral_tl_bench.utils.built_in import USUAL_ORDER, BuiltIn, find, first_paragraph
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.hashing import file_digest, text_digest

Registered = TypeVar("Registered")


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
    """The objects of one kind by name.

    A name is one that comes with the package, one of another package's entry points, or ``path/to/file.py:NAME``.
    What comes with the package is registered where it is defined and found in the text of the source files:
    ``@METHODS.register("lora")`` above a class or function, or a module-level ``TINY = BackboneEntry("tiny", ...)``.
    """

    def __init__(
        self, kind: str, hint: str, *packages: str, value_class: str | None = None, alphabetical: bool = False
    ) -> None:
        """Name what is registered and where it is.

        Args:
            kind: What is registered, in the singular ("method"). The entry-point group is
                ``spectral_tl_bench.<kind>s``.
            hint: What to do about an unknown name, for the error.
            packages: Parts of ``spectral_tl_bench`` whose files are searched.
            value_class: Class of registered objects, where they are neither classes nor functions. Their first
                argument is the name.
            alphabetical: Whether lists are sorted by name, plugins included.
        """
        self.kind = kind
        self.hint = hint
        self.packages = tuple(f"spectral_tl_bench.{package}" for package in packages)
        self.value_class = value_class
        self.alphabetical = alphabetical
        plural = kind.replace("loss", "losse") + "s"
        self.group = f"spectral_tl_bench.{plural}"
        self.constant = plural.upper()

    def register(self, name: str, *, order: int = USUAL_ORDER) -> Callable[[Registered], Registered]:
        """Mark a class or function of this package as registered; the mark is read from the source text.

        Args:
            name: What users type.
            order: Position in lists.
        """
        return lambda registered: registered

    @cached_property
    def built_in(self) -> dict[str, BuiltIn]:
        """What comes with the package, by name, in the order of lists."""
        return {entry.name: entry for entry in find(self.packages, self.constant, self.value_class)}

    def _plugins(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name; more than one where packages disagree about what a name means."""
        plugins: dict[str, list[EntryPoint]] = {}
        for point in _installed(self.group):
            others = plugins.setdefault(point.name, [])
            if point.value not in [other.value for other in others]:
                others.append(point)
        return plugins

    def names(self) -> list[str]:
        """Every name: those of this package in their order, then those of plugins."""
        names = [*self.built_in, *sorted(set(self._plugins()) - set(self.built_in))]
        return sorted(names) if self.alphabetical else names

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
        self.require(name)
        defined = {self.built_in[name].value: "this package"} if name in self.built_in else {}
        for point in self._plugins().get(name, []):
            defined.setdefault(point.value, point.value)
        if len(defined) > 1:
            raise PluginError(
                f"{self.kind} {name!r} is defined twice, by {' and by '.join(defined.values())}; uninstall one"
            )
        (value,) = defined
        module, _, attribute = value.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # a plugin may raise anything, and the others must still work
            raise PluginError(
                f"{self.kind} {name!r} ({value}) cannot be imported: {type(error).__name__}: {error}; repair or "
                "uninstall that package"
            ) from error

    def summary(self, name: str) -> str:
        """One line about what a name means, without importing it where it comes with the package.

        Raises:
            PluginError: If it is a plugin that cannot be imported.
        """
        if name in self.built_in and (summary := self.built_in[name].summary) is not None:
            return summary
        loaded = self.load(name)
        given = (getattr(loaded, attribute, None) for attribute in ("summary", "title", "label"))
        return next((text for text in given if isinstance(text, str)), first_paragraph(loaded.__doc__))

    def usable(self) -> tuple[list[str], list[str]]:
        """Return the names that can be imported, and one line about each that cannot."""
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
    return file_digest(file) if file is not None and file.is_file() else None


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
    digest = text_digest(str(path.resolve()), 8)
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


_SEE_ARCHITECTURE = "docs/architecture.md lists them and says how to add one"

METHODS = Registry("method", "run `spectral-bench methods` to see them all", "baselines", "methods", alphabetical=True)
"""Subclasses of ``methods.Method`` and ``methods.PixelModel``."""

BACKBONES = Registry(
    "backbone", "run `spectral-bench backbones` to see them all", "backbones", value_class="BackboneEntry"
)
"""Objects of ``backbones.BackboneEntry``."""

DATASETS = Registry("dataset", "run `spectral-bench datasets` to see them all", "datasets")
"""Subclasses of ``datasets.base.TileDataset``."""

DECODERS = Registry("decoder", _SEE_ARCHITECTURE, "training")
"""Called with the backbone, the number of classes and the training settings; see ``training/decoders/segmenter.py``."""

LOSSES = Registry("loss", _SEE_ARCHITECTURE, "training")
"""Functions of logits and mask; see ``training/losses.py``."""

SAMPLERS = Registry("sampler", _SEE_ARCHITECTURE, "datamodules")
"""Functions that weigh the source tiles; see ``datamodules/samplers.py``."""

SCORES = Registry("score", "docs/architecture.md says how to add one", "records", value_class="Score")
"""Objects of ``records.scores.Score``."""

REGISTRIES = (METHODS, BACKBONES, DATASETS, DECODERS, LOSSES, SAMPLERS, SCORES)
