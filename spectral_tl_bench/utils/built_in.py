"""What comes with the package, found in the text of its source files: nothing is imported to list names."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spectral_tl_bench.utils.errors import SpectralBenchError

USUAL_ORDER = 100
"""Position in lists of what gives none."""


@dataclass(frozen=True)
class BuiltIn:
    """A registered class, function or object of this package, as its source text describes it.

    Attributes:
        name: Registered name.
        module: Module that defines it.
        line: Its line there.
        order: Position in lists; ties are listed by module and line.
        node: Its definition: a class, a function or an assignment.
    """

    name: str
    module: str
    line: int
    order: int
    node: ast.stmt

    @property
    def attribute(self) -> str:
        """Name of the object in its module."""
        if isinstance(self.node, ast.Assign):
            return ast.unparse(self.node.targets[0])
        assert isinstance(self.node, ast.ClassDef | ast.FunctionDef)
        return self.node.name

    @property
    def value(self) -> str:
        """``module:attribute``, as an entry point names it."""
        return f"{self.module}:{self.attribute}"

    @property
    def summary(self) -> str | None:
        """One line about it: an object's second argument, a class's ``title``, or the first paragraph of the docstring.

        None where the text does not say it.
        """
        if isinstance(self.node, ast.Assign):
            assert isinstance(self.node.value, ast.Call)
            return _constant(_argument(self.node.value, 1, "summary"))
        if isinstance(self.node, ast.ClassDef):
            for statement in self.node.body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "title":
                    return _constant(statement.value)
        assert isinstance(self.node, ast.ClassDef | ast.FunctionDef)
        return first_paragraph(ast.get_docstring(self.node))

    @property
    def bases(self) -> tuple[str, ...]:
        """Names of a class's bases, as the text writes them."""
        return tuple(ast.unparse(base) for base in self.node.bases) if isinstance(self.node, ast.ClassDef) else ()

    def fields(self) -> dict[str, str] | None:
        """Fields of a dataclass with their defaults as text; None where the text alone does not give a default."""
        assert isinstance(self.node, ast.ClassDef)
        fields = {}
        for statement in self.node.body:
            if isinstance(statement, ast.AnnAssign) and not ast.unparse(statement.annotation).startswith("ClassVar"):
                try:
                    fields[ast.unparse(statement.target)] = str(ast.literal_eval(statement.value or ast.Name("_")))
                except ValueError:
                    return None
        return fields


def first_paragraph(docstring: str | None) -> str:
    """The first paragraph of a docstring in one line."""
    return inspect.cleandoc(docstring or "").partition("\n\n")[0].replace("\n", " ")


def find(packages: Sequence[str], registry: str, value_class: str | None) -> list[BuiltIn]:
    """Find what is registered in the source files of packages.

    Args:
        packages: Packages to search, with all files below them.
        registry: Name of the registry, such as ``METHODS``, in ``@METHODS.register("name")``.
        value_class: Name of a class, such as ``BackboneEntry``, in ``X = BackboneEntry("name", ...)``.

    Returns:
        What was found, in the order of lists.

    Raises:
        SpectralBenchError: If a name is no plain text, or is given twice.
    """
    marks = [f"{registry}.register(", *([f"= {value_class}("] if value_class else [])]
    found: dict[str, BuiltIn] = {}
    for module, path in _source_files(packages):
        text = path.read_text(encoding="utf-8")
        if not any(mark in text for mark in marks):
            continue
        for node in ast.parse(text, str(path)).body:
            for call in _calls(node, registry, value_class):
                name = _constant(_argument(call, 0, "name"))
                if name is None or name in found:
                    problem = "is registered twice" if name else "must be registered under a name written out as text"
                    raise SpectralBenchError(f"{path}:{call.lineno}: {name or ast.unparse(call)} {problem}")
                order = _argument(call, None, "order")
                position = USUAL_ORDER if order is None else ast.literal_eval(order)
                found[name] = BuiltIn(name, module, node.lineno, position, node)
    return sorted(found.values(), key=lambda entry: (entry.order, entry.module, entry.line))


def _source_files(packages: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Modules of packages with their files; a package that is not installed has none."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            for path in sorted(folder.glob("**/*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]), path


def _calls(node: ast.stmt, registry: str, value_class: str | None) -> Iterator[ast.Call]:
    """The calls that register a statement of a module."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"{registry}.register":
                yield decorator
    elif (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == value_class
    ):
        yield node.value


def _argument(call: ast.Call, position: int | None, name: str) -> ast.expr | None:
    if position is not None and position < len(call.args):
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _constant(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
