"""The architecture: which module may import which, how long a module may be, and what an installed copy holds."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest

import spectral_tl_bench
from spectral_tl_bench.utils.registry import DATASETS

ROOT = Path(spectral_tl_bench.__file__).resolve().parent
PACKAGE = "spectral_tl_bench"
OUTSIDE = "baselines", "benchmarks", "leaderboards"
"""Parts of the package whose folders stand at the top level of the repository."""

RELATIVE = f"{PACKAGE}.baselines", f"{PACKAGE}.benchmarks"
LONGEST_MODULE = 400
MOST_ROOMS = 22


def modules():
    """Every module of the package by its dotted name."""
    folders = {PACKAGE: ROOT}
    folders |= {f"{PACKAGE}.{name}": Path(import_module(f"{PACKAGE}.{name}").__file__).parent for name in OUTSIDE}
    found = {}
    for package, folder in folders.items():
        for path in sorted(folder.glob("**/*.py")):
            if "speed" not in path.parts:
                parts = path.relative_to(folder).with_suffix("").parts
                found[".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


MODULES = modules()


def imports(name):
    """Modules of the package that one imports anywhere, for the type checker alone too."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # Files of one folder at the top level import one another relatively, which type checkers can follow.
            assert not node.level or package in RELATIVE, f"{name} imports relatively; name it in full"
            base = f"{package}.{node.module}" if node.level else node.module
            wanted = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        else:
            continue
        yield from (module for module in wanted if module in MODULES and module != name)


GRAPH = {name: set(imports(name)) for name in MODULES}


def circle(graph):
    """Some circle as a list of names that begins and ends alike, or None."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for other in sorted(graph[name]):
            if found := visit(other):
                return found
        path.pop()
        done.add(name)
        return None

    for name in sorted(graph):
        if found := visit(name):
            return found
    return None


def test_no_module_imports_itself_through_others():
    found = circle(GRAPH)
    assert found is None, "circle: " + " -> ".join(found or [])


def room(name):
    """The folder or module directly below the package that a module belongs to."""
    return [*name.split("."), "__init__"][1]


ROOMS = {room(name): set() for name in MODULES}
for module, imported in GRAPH.items():
    ROOMS[room(module)] |= {room(other) for other in imported} - {room(module)}


def test_no_room_imports_itself_through_others():
    found = circle(ROOMS)
    assert found is None, "circle: " + " -> ".join(found or [])


def test_there_are_few_rooms():
    assert len(set(ROOMS) - {"__init__", "__main__"}) <= MOST_ROOMS


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_every_module_is_short_enough_to_be_one_idea():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def reach(name, graph=GRAPH):
    """Everything that importing a module may import, itself included."""
    seen, todo = set(), [name]
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo += graph[here]
    return seen


RECORDS_ALONE = [
    name for name in MODULES if name.startswith((f"{PACKAGE}.report", f"{PACKAGE}.records", f"{PACKAGE}.config"))
]


def test_what_works_from_records_alone_imports_no_torch():
    """In a fresh process, since this one has imported everything."""
    code = f"import importlib, sys\nfor name in {RECORDS_ALONE!r}: importlib.import_module(name)\n"
    code += "print('torch' in sys.modules or 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_core_imports_no_baseline():
    scripts = f"{PACKAGE}.baselines", f"{PACKAGE}.benchmarks"
    core = [name for name in MODULES if not name.startswith(scripts)]
    assert not [(name, other) for name in core for other in GRAPH[name] if other.startswith(f"{PACKAGE}.baselines.")]


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", PACKAGE, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == spectral_tl_bench.__version__


@pytest.mark.parametrize("name", ["methods", "backbones", "sensors", "baselines.insertion", "datasets"])
def test_documented_imports_stay(name):
    __import__(f"{PACKAGE}.{name}")


@pytest.mark.parametrize("entry", DATASETS.built_in.values(), ids=lambda entry: entry.attribute)
def test_dataset_classes_are_imported_from_the_package_of_datasets(entry):
    assert getattr(import_module(f"{PACKAGE}.datasets"), entry.attribute) is DATASETS.load(entry.name)


def test_the_package_of_datasets_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        import_module(f"{PACKAGE}.datasets").__getattr__("Nothing")


def test_every_package_is_installed():
    if not (ROOT.parent / "pyproject.toml").is_file():
        pytest.skip("this is an installed copy, there is no source tree")
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")
    assert settings["packages"] == packages


@pytest.mark.slow
def test_a_wheel_holds_everything_that_is_read_at_run_time(tmp_path):
    top = ROOT.parent
    if not (top / "pyproject.toml").is_file():
        pytest.skip("this is an installed copy, there is no source tree to build a wheel from")
    # From a copy: a build leaves its folders beside the sources.
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(top / name, copy)
    for name in (PACKAGE, "baselines", "benchmarks", "leaderboards"):
        shutil.copytree(top / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    benchmarks = Path(str(files(f"{PACKAGE}.benchmarks")))
    wanted = {
        f"{PACKAGE}/{path.relative_to(top if path.parts[len(top.parts)] in OUTSIDE else ROOT)}"
        for path in MODULES.values()
    }
    wanted |= {f"{PACKAGE}/benchmarks/{path.relative_to(benchmarks)}" for path in benchmarks.glob("**/*.yaml")}
    wanted |= {f"{PACKAGE}/backbones/{path.name}" for path in (ROOT / "backbones").glob("*.safetensors")}
    wanted |= {f"{PACKAGE}/report/site/{name}" for name in ("style.css", "templates/page.html", "templates/run.html")}
    wanted |= {f"{PACKAGE}/leaderboards/published.csv", f"{PACKAGE}/py.typed"}
    assert wanted <= held, f"missing from the wheel: {sorted(wanted - held)}"
    assert not [name for name in held if name.startswith(("baselines/", "benchmarks/", "tests/"))]
