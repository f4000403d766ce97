import pytest
import torch
from small_models import FAMILIES, RGB, small_entry

from spectral_tl_bench.backbones import backbone_entry, backbone_names, build_backbone
from spectral_tl_bench.methods import build_method, method_names
from spectral_tl_bench.sensors import MTS12, OHS
from spectral_tl_bench.testing import BACKBONE_CHECKS
from spectral_tl_bench.testing.backbones import check_taps
from spectral_tl_bench.utils.errors import CheckpointError, DataError, SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import BACKBONES
from spectral_tl_bench.utils.tensors import restore, trained_state


@pytest.mark.parametrize("name", BACKBONES.built_in)
def test_every_backbone_gives_four_maps_at_quarter_depths(name):
    check_taps(backbone_entry(name))


def adapted(name, method_name):
    """A small backbone with a method on it, the same each time."""
    torch.manual_seed(0)
    backbone = small_entry(name).build(MTS12)
    method = build_method(method_name)
    method.apply(backbone)
    for stage in method.stages:
        method.begin_stage(backbone, stage)
    return backbone


@pytest.mark.parametrize("name", FAMILIES)
class TestEverySmallBackbone:
    @pytest.mark.parametrize("check", BACKBONE_CHECKS, ids=lambda check: check.__name__)
    def test_it_keeps_every_contract(self, name, check):
        check(small_entry(name))

    @pytest.mark.parametrize("method_name", method_names())
    def test_every_method_adapts_it(self, name, method_name):
        backbone = adapted(name, method_name)
        frozen = {n: p.clone() for n, p in backbone.named_parameters() if not p.requires_grad}
        side = 2 * backbone.patch_size
        images = torch.randn(2, 24, side, 2 * side)
        features = backbone(images)
        assert [tuple(f.shape) for f in features] == [(2, backbone.width, 2, 4)] * 4
        trained = [p for p in backbone.parameters() if p.requires_grad]
        sum(f.square().mean() for f in features).backward()
        assert any(p.grad is not None and p.grad.any() for p in trained)
        torch.optim.AdamW(trained, lr=1e-3).step()
        assert all(torch.equal(p, frozen[n]) for n, p in backbone.named_parameters() if n in frozen)

        saved = trained_state(backbone, backbone.pretrained_parameters)
        assert (
            not set(frozen)
            & set(saved)
            & {n for n, p in backbone.named_parameters() if id(p) in backbone.pretrained_parameters}
        )
        fresh = adapted(name, method_name)
        restore(fresh, saved, fresh.pretrained_parameters, "the test")
        for a, b in zip(backbone.eval()(images), fresh.eval()(images), strict=True):
            assert torch.equal(a, b)


def test_dropping_some_patches_keeps_their_order():
    backbone = build_backbone("vit_micro", RGB).eval()
    tokens = backbone.embed(torch.randn(2, 3, 64, 64))
    some = tokens.keep(torch.tensor([[5, 1], [0, 63]]))
    assert torch.equal(some.patches[0], tokens.patches[0, [5, 1]])
    assert torch.equal(some.patches[1], tokens.patches[1, [0, 63]])
    assert [tuple(f.shape) for f in backbone.encode(some)] == [(2, 2, 192)] * 4


def test_images_that_do_not_fit_are_refused():
    backbone = build_backbone("vit_micro", RGB)
    with pytest.raises(DataError, match="multiples of 8"):
        backbone(torch.randn(1, 3, 60, 64))
    with pytest.raises(DataError, match="built for 3 bands"):
        backbone(torch.randn(1, 4, 64, 64))


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'vit_micro'"):
        build_backbone("vit_mikro", OHS)


PLUGIN = """\
import dataclasses
from spectral_tl_bench.backbones import backbone_entry
ENTRY = dataclasses.replace(backbone_entry("vit_micro"), name="{name}")
WRONG = "no entry"
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package with one entry point where Python finds packages."""

    def install(name, value, entry_name=None):
        module = value.partition(":")[0]
        folder = tmp_path / module
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(PLUGIN.format(name=entry_name or name))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[spectral_tl_bench.backbones]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(folder)

    return install


def test_a_backbone_of_another_package_is_found_by_its_entry_point(install):
    install("theirs", "their_backbone:ENTRY")
    assert "theirs" in backbone_names()
    assert build_backbone("theirs", RGB).width == 192


@pytest.mark.parametrize(
    ("name", "value", "entry_name", "message"),
    [
        ("vit_micro", "plugin_a:ENTRY", None, "'vit_micro' is defined twice, by this package and by plugin_a:ENTRY"),
        ("wrong", "plugin_b:WRONG", None, "no BackboneEntry named 'wrong'"),
        ("one", "plugin_c:ENTRY", "another", "no BackboneEntry named 'one'"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused(install, name, value, entry_name, message):
    install(name, value, entry_name)
    with pytest.raises(SpectralBenchError, match=message):
        build_backbone(name, RGB)


def test_one_name_in_two_packages_is_refused(install):
    install("same", "plugin_d:ENTRY")
    install("same", "plugin_e:ENTRY")
    assert "same" in backbone_names()
    with pytest.raises(SpectralBenchError, match="'same' is defined twice"):
        build_backbone("same", RGB)


def test_a_backbone_without_hub_says_where_its_weights_are():
    with pytest.raises(CheckpointError, match=r"download the ViT-L checkpoint of https://huggingface.co/\S+ and pass"):
        small_entry("satmaepp_l").build(RGB, "hub")
    with pytest.raises(CheckpointError, match="no hub serves weights of vit_micro: use --weights embedded or none"):
        build_backbone("vit_micro", RGB, "hub")
