"""docs/python.md from its first line to its last, and what docs/backbones.md and docs/index.md name."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest
import yaml

from spectral_tl_bench.backbones import backbone_names
from spectral_tl_bench.utils.registry import DATASETS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHIPPED = set(backbone_names())


def test_the_page_about_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), flags=re.DOTALL):
        exec(block.replace("num_workers=2", "num_workers=0"), names)
    printed = capsys.readouterr().out
    assert "torch.Size([32, 64, 64]) torch.float32" in printed
    assert "torch.Size([4, 32, 64, 64])" in printed
    assert Path("sample.png").stat().st_size > 1000


def test_every_dataset_that_can_be_used_alone_is_listed():
    for name in DATASETS.built_in:
        if name != "tiles":
            cls = DATASETS.load(name)
            assert f"`{cls.__module__}.{cls.__name__}`" in (DOCS / "python.md").read_text()


def test_every_backbone_is_in_the_table_for_picking_one():
    rows = re.findall(r"^\| (`[^|]+) \|", (DOCS / "backbones.md").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) >= SHIPPED


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=lambda page: page.stem)
def test_every_page_is_in_the_site(page):
    def pages(entries):
        for entry in entries:
            target = next(iter(entry.values())) if isinstance(entry, dict) else entry
            yield from pages(target) if isinstance(target, list) else [target]

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert str(page.relative_to(DOCS)) in set(pages(site["nav"]))
