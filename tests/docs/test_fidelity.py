"""docs/fidelity.md names every registered backbone, and tests that exist."""

import re
from pathlib import Path

from spectral_tl_bench.utils.registry import BACKBONES, METHODS

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "fidelity.md").read_text().splitlines()
    if line.startswith("| `")
]
MADE_HERE = {"vit_micro"}


def names():
    return {name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])}


def test_every_backbone_with_a_published_name_has_a_row():
    assert set(BACKBONES.built_in) - MADE_HERE <= names()
    assert names() <= set(BACKBONES.built_in) | set(METHODS.built_in)


def test_every_test_that_a_row_names_exists():
    defined = {
        name for file in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row[4])
        assert named or row[3] == "-"
        assert set(named) <= defined
