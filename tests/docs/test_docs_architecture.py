"""docs/architecture.md against the package: rooms that are there, registries that it names."""

import re
from pathlib import Path

import spectral_tl_bench
from spectral_tl_bench.utils.registry import REGISTRIES

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOT = Path(spectral_tl_bench.__file__).parent


def test_every_room_is_described_and_every_description_has_a_room():
    linked = {"baselines", "benchmarks", "leaderboards"}
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} - linked
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGE, flags=re.MULTILINE)) == rooms


def test_every_module_at_the_root_is_named():
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    intro = PAGE.partition("| room |")[0]
    assert modules <= set(re.findall(r"`(\w+)`", intro))


def test_every_way_to_extend_is_in_the_table():
    rows = re.findall(r"^\| a (\w+) \|", PAGE.partition("## To add X")[2], flags=re.MULTILINE)
    assert {registry.kind for registry in REGISTRIES} <= set(rows)
    for each in REGISTRIES:
        assert each.group.removeprefix("spectral_tl_bench") in PAGE


def test_every_file_that_the_table_names_exists():
    table = PAGE.partition("## To add X")[2].partition("Outside the package")[0]
    for name in set(re.findall(r"`((?:\w+/)*\w+\.(?:py|toml))`", table)):
        assert (ROOT / name).is_file() or (ROOT.parent / name).is_file(), name
    for page in re.findall(r"\]\((\S+\.md)\)", table):
        assert (ROOT.parent / "docs" / page).is_file()
