import pytest
import torch
from small_models import FAMILIES, RGB, small_entry

from spectral_tl_bench.backbones import backbone_names, build_backbone
from spectral_tl_bench.methods import build_method, method_names
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2
from spectral_tl_bench.utils.errors import CheckpointError, DataError, SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import BACKBONES
from spectral_tl_bench.utils.tensors import restore, trained_state

IMPOSSIBLE: dict[tuple[str, str], str] = {}
"""What a method says where it cannot adapt a backbone."""


@pytest.mark.parametrize("name", BACKBONES.built_in)
def test_every_backbone_gives_four_maps_at_quarter_depths(name):
    with torch.device("meta"):
        backbone = build_backbone(name, OHS)
        side = 6 * backbone.patch_size
        features = backbone(torch.empty(2, 32, side, 2 * side))
    assert [tuple(f.shape) for f in features] == [(2, backbone.width, 6, 12)] * 4
    depth = len(backbone.blocks)
    assert backbone.taps == (depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1, depth - 1)


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
    def test_features_depend_on_every_band_and_every_place(self, name):
        torch.manual_seed(0)
        backbone = small_entry(name).build(SENTINEL2)
        side = 2 * backbone.patch_size
        images = torch.randn(1, 13, side, side, requires_grad=True)
        backbone(images)[-1].square().sum().backward()
        assert (images.grad.abs().amax(dim=(0, 2, 3)) > 0).all()
        swapped = images.detach().flip(3)
        assert not torch.allclose(backbone(swapped)[-1], backbone(images)[-1].flip(3), atol=1e-4)

    def test_a_kept_patch_keeps_its_place(self, name):
        """Patches in another order are the same patches, as long as each takes its position along."""
        backbone = small_entry(name).build(RGB)
        tokens = backbone.embed(torch.randn(2, 3, 3 * backbone.patch_size, 2 * backbone.patch_size))
        everything = backbone.encode(tokens.keep(torch.arange(6).expand(2, -1)))
        for a, b in zip(everything, backbone.encode(tokens), strict=True):
            torch.testing.assert_close(a, b)
        order = torch.tensor([[5, 1, 0, 2, 4, 3], [0, 3, 1, 2, 5, 4]])
        shuffled = backbone.encode(tokens.keep(order))[-1]
        expected = everything[-1].gather(1, order.unsqueeze(-1).expand_as(shuffled))
        torch.testing.assert_close(shuffled, expected, atol=1e-4, rtol=1e-4)

    def test_dropping_twice_is_dropping_once(self, name):
        backbone = small_entry(name).build(RGB)
        tokens = backbone.embed(torch.randn(1, 3, 2 * backbone.patch_size, 2 * backbone.patch_size))
        twice = tokens.keep(torch.tensor([[3, 0, 2]])).keep(torch.tensor([[2, 0]]))
        once = tokens.keep(torch.tensor([[2, 3]]))
        assert torch.equal(backbone.encode(twice)[-1], backbone.encode(once)[-1])

    @pytest.mark.parametrize("method_name", method_names())
    def test_every_method_adapts_it(self, name, method_name):
        if (method_name, name) in IMPOSSIBLE:
            with pytest.raises(SpectralBenchError, match=IMPOSSIBLE[method_name, name]):
                adapted(name, method_name)
            return
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
