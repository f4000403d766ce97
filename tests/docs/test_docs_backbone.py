"""The examples of docs/add-a-backbone.md, installed as a reader would install them."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from spectral_tl_bench.backbones import backbone_entry, backbone_names, build_backbone
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.sensors import OHS, SENTINEL2
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.registry import BACKBONES

PAGE = Path(__file__).parents[2] / "docs" / "add-a-backbone.md"
EXAMPLES = {"dino_s8": "dino.py", "factored_t": "factored.py"}


def code_blocks(language):
    """Blocks of the page, without the test that test_docs_contracts.py runs."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [block for block in blocks if not block.startswith("# test_")]


def entry_points():
    (toml,) = code_blocks("toml")
    return tomllib.loads(toml)["project"]["entry-points"]


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    """The page's package with its entry points, where Python finds packages."""
    package, info = tmp_path / "my_package", tmp_path / "my_package-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    for block in code_blocks("python"):
        (package / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    lines = [f"{name} = {value}" for name, value in entry_points()[BACKBONES.group].items()]
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{BACKBONES.group}]", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_every_example_is_tested_and_has_an_entry_point():
    assert [block.partition("\n")[0] for block in code_blocks("python")] == [f"# {file}" for file in EXAMPLES.values()]
    assert entry_points().keys() == {BACKBONES.group}
    assert entry_points()[BACKBONES.group].keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("method", ["lora", "spectralx"])
def test_an_example_is_a_backbone_by_its_name(my_package, name, method):
    assert name in backbone_names()
    backbone = build_backbone(name, SENTINEL2)
    build_method(method).apply(backbone)
    side = backbone.patch_size
    features = backbone(torch.randn(1, 13, 2 * side, 3 * side))
    assert [tuple(f.shape) for f in features] == [(1, backbone.width, 2, 3)] * 4


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_loads_an_rgb_checkpoint_for_any_sensor(my_package, tmp_path, name):
    model = backbone_entry(name).make(3)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    backbone = build_backbone(name, OHS, str(tmp_path / "weights.pth"))
    assert torch.equal(backbone.blocks[3].mlp.fc1.weight, model.blocks[3].mlp.fc1.weight)
    expected = model.patch_embed.proj.weight.sum(dim=1)
    torch.testing.assert_close(backbone.tokenizer.projection.weight.sum(dim=1), expected, rtol=1e-3, atol=1e-5)


def test_the_specaware_of_other_patches_is_a_backbone(tmp_path):
    page = (PAGE.parent / "backbones.md").read_text()
    (block,) = re.findall(r"```python\n(# my_specaware.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my_specaware.py").write_text(block)
    with torch.device("meta"):
        backbone = build_backbone(f"{tmp_path}/my_specaware.py:SPECAWARE16", OHS)
        assert backbone(torch.empty(1, 32, 32, 48))[-1].shape == (1, 768, 2, 3)


def test_the_release_of_an_example_is_named_where_no_hub_serves_it(my_package):
    with pytest.raises(CheckpointError, match=r"download https://example\.org/factored_t\.pth and pass"):
        build_backbone("factored_t", SENTINEL2, "hub")
