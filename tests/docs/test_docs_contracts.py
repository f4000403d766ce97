"""The tests that docs/add-a-*.md show, run on the classes of these pages."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.records import find_runs, read_run

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("add-a-baseline.md", "add-a-backbone.md", "add-a-dataset.md")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the Python files of a page where they can be imported."""
    (tmp_path / "my_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def write(page):
        for block in blocks(page, "python"):
            name = block.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block)
            (tmp_path / "my_package" / name).write_text(block)
        return tmp_path

    yield write
    for name in [n for n, m in sys.modules.items() if (getattr(m, "__file__", None) or "").startswith(str(tmp_path))]:
        del sys.modules[name]
    sys.modules.pop("my_package", None)


@pytest.fixture
def tiles(tmp_path):
    """Six small tiles of each of two harbours."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for harbour in ("rotterdam", "genoa"):
        for number in range(6):
            labels = generator.integers(1, 3, (1, 32, 32), dtype=np.uint8)
            image = (labels.astype(int) * 1000 + generator.integers(0, 500, (3, 32, 32))).astype(np.uint16)
            for ending, array in (("", image), ("_label", labels)):
                profile = {"driver": "GTiff", "height": 32, "width": 32, "count": len(array), "dtype": array.dtype}
                with rasterio.open(folder / f"{harbour}_{number}{ending}.tif", "w", **profile) as file:
                    file.write(array)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_the_test_of_the_page_passes_on_its_class(page, write, tiles):
    write(page)
    (shown,) = [block for block in blocks(page, "python") if block.startswith("# test_")]
    namespace = {}
    exec(shown, namespace)
    (test,) = [value for name, value in namespace.items() if name.startswith("test_")]
    test(tiles) if test.__code__.co_argcount else test()


def test_the_dataset_of_the_page_runs(write, tiles, tmp_path):
    folder = write("add-a-dataset.md")
    (protocol,) = blocks("add-a-dataset.md", "yaml")
    (folder / "harbours.yaml").write_text(protocol)
    command = ["run", "--method", "pixel_forest", "--protocol", str(folder / "harbours.yaml")]
    with pytest.raises(SystemExit) as exit_info:
        main([*command, "--root", str(tiles), "--set", "trees=5", "--out", str(tmp_path / "runs")])
    assert exit_info.value.code in (0, None)
    (run,) = find_runs(tmp_path / "runs")
    assert read_run(run).record.spec.dataset == "Harbours"
