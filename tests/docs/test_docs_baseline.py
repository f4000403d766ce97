"""The examples of docs/add-a-baseline.md, run as a reader would run them."""

import re
import tomllib
from pathlib import Path

import pytest
from tiny_run import TINIEST

from spectral_tl_bench.methods import build_method
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.utils.registry import METHODS
from spectral_tl_bench.utils.runtime import RuntimeOptions

PAGE = Path(__file__).parents[2] / "docs" / "add-a-baseline.md"
EXAMPLES = {"bias.py": "BiasTuning", "mixing.py": "LocalMixing", "spectral_mlp.py": "SpectralMLP"}


def code_blocks(language):
    """Blocks of the page, without the test that test_docs_contracts.py runs."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [block for block in blocks if not block.startswith("# test_")]


@pytest.fixture
def example(tmp_path):
    """Write an example to the file named in its first line."""
    files = {block.partition("\n")[0].removeprefix("# "): block for block in code_blocks("python")}

    def write(name):
        (tmp_path / name).write_text(files[name])
        return f"{tmp_path / name}:{EXAMPLES[name]}"

    return write


def test_every_example_is_tested():
    assert [block.partition("\n")[0] for block in code_blocks("python")] == [f"# {name}" for name in EXAMPLES]


def test_the_first_one_takes_about_twenty_lines():
    assert len(code_blocks("python")[0].splitlines()) <= 22


@pytest.mark.parametrize(
    ("name", "options"), [("bias.py", {"embedding": "true"}), ("mixing.py", {"reach": "2", "decay": "0.01"})]
)
def test_an_example_runs_to_a_record(example, name, options, whuohs_root, tmp_path):
    method = example(name)
    (request,) = requests(
        method,
        "whu_region/s2t",
        root=whuohs_root,
        preset_name="quick",
        weights="none",
        options=options,
        training=TINIEST,
    )
    done = execute(plan(request), tmp_path / "runs", RuntimeOptions(device="cpu"))
    assert done.record.spec.method_name == EXAMPLES[name]
    assert done.record.spec.method_options == build_method(method, options).options()


def test_the_example_without_a_backbone_runs_to_a_record(example, whuohs_root, tmp_path):
    options = {"width": "8", "pixels": "1000"}
    (request,) = requests(example("spectral_mlp.py"), "whu_region/s2t", root=whuohs_root, seed=1, options=options)
    done = execute(plan(request), tmp_path / "runs")
    assert done.record.spec.method_options == {"width": 8, "pixels": 1000}
    assert done.record.spec.backbone == "none"


def test_the_entry_point_is_of_the_group_that_is_read():
    (toml,) = code_blocks("toml")
    assert tomllib.loads(toml)["project"]["entry-points"].keys() == {METHODS.group}
