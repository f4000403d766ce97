import copy

import pytest
import torch
from small_models import RGB, scalemae
from torch import nn

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.base import Backbone, PatchEmbedding
from spectral_tl_bench.backbones.scalemae import ScaleMAEBackbone
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.methods.spectralx.aomoa import AoMoALinear
from spectral_tl_bench.methods.spectralx.hyper_tokenizer import HyperTokenizerCore
from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.methods.spectralx.positions import wavelength_code
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2
from spectral_tl_bench.utils.errors import SpectralBenchError

VARIANTS = ("default", "reference")
SWITCHES = (
    {},
    {"are_adapter": False},
    {"aomoa": False},
    {"aomoa": False, "are_adapter": False},
    {"hyper_tokenizer": False, "are_adapter": False},
    {"hyper_tokenizer": False, "are_adapter": False, "aomoa": False},
    {"stage1": False},
    {"train_core_in_segmentation": True},
)


def adapted(method: SpectralX, backbone: Backbone, stage: str) -> Backbone:
    method.apply(backbone)
    for name in method.stages:
        method.begin_stage(backbone, name)
        if name == stage:
            break
    return backbone.train()


def wake_up(backbone: Backbone) -> None:
    """Take mixtures and tokenizer away from their start, at which a last layer of 0 lets no gradient through."""
    for module in backbone.modules():
        if isinstance(module, AoMoALinear):
            nn.init.normal_(module.up.weight, std=0.1)
        if isinstance(module, HyperTokenizerCore):
            nn.init.normal_(module.ffn[-1].weight, std=0.1)


def test_attribute_tokens_of_default_start_silent_and_those_of_reference_do_not(make_backbone):
    images = torch.randn(1, 5, 64, 64)
    for variant, silent in (("default", True), ("reference", False)):
        backbone = make_backbone(patch_size=8, image_size=(64, 64))
        SpectralX(variant=variant).apply(backbone)
        attributes, _, _ = backbone.tokenizer.core(images)
        assert (not attributes.any()) == silent


def step(method: SpectralX, backbone: Backbone, images: torch.Tensor, stage: str) -> torch.Tensor:
    """Loss of a training step with gradients; reconstruction keeps a quarter of the tokens."""
    if stage == "reconstruction":
        tokens = backbone.embed(images)
        visible = torch.stack([torch.randperm(tokens.patches.shape[1])[:4] for _ in images])
        features = backbone.encode(tokens.keep(visible))
    else:
        features = backbone(images)
    # Weighted, for the mean square of a normalised map has hardly any gradient.
    loss = sum((f * torch.linspace(-1, 1, f.numel()).view_as(f)).square().mean() for f in features)
    extra = method.extra_loss(backbone)
    loss = loss if extra is None else loss + extra
    loss.backward()
    return loss.detach()


def without_gradient(backbone: Backbone) -> set[str]:
    """Trained parameters that got no gradient, or nothing but zeros; biases before a batch norm only need one."""
    return {
        name
        for name, p in backbone.named_parameters()
        if p.requires_grad and (p.grad is None or (p.ndim > 1 and not p.grad.any()) or not p.grad.isfinite().all())
    }


def test_it_is_installed_under_its_name():
    method = build_method("spectralx", {"variant": "reference", "experts": "6"})
    assert isinstance(method, SpectralX)
    assert method.options()["experts"] == 6


@pytest.mark.parametrize("stage", ["reconstruction", "segmentation"])
@pytest.mark.parametrize("patch_size", [8, 16])
def test_default_gives_every_trained_parameter_a_gradient(make_backbone, stage, patch_size):
    torch.manual_seed(0)
    method = SpectralX()
    backbone = adapted(method, make_backbone(patch_size=patch_size, image_size=(64, 64)), stage)
    wake_up(backbone)
    step(method, backbone, torch.randn(2, 5, 64, 64), stage)
    assert without_gradient(backbone) == set()


def test_reference_never_trains_the_attention_of_the_are_adapter(make_backbone):
    torch.manual_seed(0)
    method = SpectralX("reference")
    backbone = adapted(method, make_backbone(), "segmentation")
    step(method, backbone, torch.randn(2, 5, 32, 32), "segmentation")
    matches = {name for name, _ in backbone.named_parameters() if "_match." in name and name.startswith("after_tap")}
    assert len(matches) == 20
    assert without_gradient(backbone) == matches


@pytest.mark.parametrize("options", SWITCHES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_part_can_be_switched_off(make_backbone, variant, options):
    torch.manual_seed(0)
    method = SpectralX(variant, **options)
    backbone = make_backbone()
    method.apply(backbone)
    for stage in method.stages:
        method.begin_stage(backbone, stage)
        backbone.train()
        assert step(method, backbone, torch.randn(1, 5, 32, 32), stage).isfinite()


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        ({}, {"reconstruction": True, "segmentation": False}),
        ({"train_core_in_segmentation": True}, {"reconstruction": True, "segmentation": True}),
        ({"stage1": False}, {"segmentation": True}),
        ({"variant": "reference"}, {"reconstruction": False, "segmentation": False}),
        ({"variant": "reference", "stage1": False}, {"segmentation": False}),
    ],
    ids=str,
)
def test_core_of_the_tokenizer_trains_when_it_should(make_backbone, options, trains):
    method = SpectralX(**options)
    backbone = make_backbone()
    method.apply(backbone)
    assert method.stages == tuple(trains)
    for stage in method.stages:
        method.begin_stage(backbone, stage)
        assert {p.requires_grad for p in backbone.tokenizer.core.parameters()} == {trains[stage]}


@pytest.mark.parametrize(("variant", "first"), [("default", False), ("reference", True)])
@pytest.mark.parametrize("options", [{}, {"hyper_tokenizer": False, "are_adapter": False}], ids=str)
def test_what_the_pixels_mean_is_learned_from_labels_and_as_published_in_stage_1_too(
    make_backbone, variant, first, options
):
    method = SpectralX(variant, **options)
    backbone = make_backbone()
    method.apply(backbone)
    for stage, trains in (("reconstruction", first), ("segmentation", True)):
        method.begin_stage(backbone, stage)
        path = getattr(backbone.tokenizer, "pixels", backbone.tokenizer)
        assert {p.requires_grad for p in path.parameters()} == {trains}


def test_of_the_pretrained_weights_only_norms_train(make_backbone):
    backbone = make_backbone()
    adapted(SpectralX(), backbone, "segmentation")
    pretrained = {n for n, p in backbone.named_parameters() if id(p) in backbone.pretrained_parameters}
    trained = {n for n, p in backbone.named_parameters() if n in pretrained and p.requires_grad}
    assert trained == {n for n in pretrained if ".norm1." in n or ".norm2." in n}
    assert len(trained) == 4 * 4


def test_without_the_hyper_tokenizer_the_patch_embedding_trains(make_backbone):
    backbone = make_backbone()
    adapted(SpectralX(hyper_tokenizer=False, are_adapter=False), backbone, "segmentation")
    assert isinstance(backbone.tokenizer, PatchEmbedding)
    assert all(p.requires_grad for p in backbone.tokenizer.parameters())


@pytest.mark.parametrize(("variant", "same"), [("default", True), ("reference", False)])
def test_default_starts_with_the_pretrained_function(make_backbone, variant, same):
    torch.manual_seed(0)
    plain = make_backbone().eval()
    backbone = copy.deepcopy(plain)
    adapted(SpectralX(variant), backbone, "reconstruction").eval()
    tokens = backbone.embed(torch.randn(2, 5, 32, 32))
    equal = [torch.equal(a, b) for a, b in zip(backbone.encode(tokens), plain.encode(tokens), strict=True)]
    assert all(equal) == same


@pytest.mark.parametrize(("variant", "leaks"), [("default", False), ("reference", True)])
def test_masked_pixels_reach_the_encoder_only_in_reference(make_backbone, variant, leaks):
    torch.manual_seed(0)
    method = SpectralX(variant)
    backbone = adapted(method, make_backbone(), "reconstruction")
    masked = torch.rand(4, 4) < 0.75
    visible = (~masked).flatten().nonzero().T
    pixels = masked.repeat_interleave(8, 0).repeat_interleave(8, 1)

    def encode(images):
        torch.manual_seed(1)
        if method.blanks_masked_patches:
            images = images.masked_fill(pixels, 0)
        return backbone.encode(backbone.embed(images).keep(visible))

    images = torch.randn(1, 5, 32, 32)
    other = torch.where(pixels, torch.randn(1, 5, 32, 32), images)
    changed = [not torch.equal(a, b) for a, b in zip(encode(images), encode(other), strict=True)]
    assert changed == [leaks] * 4


@pytest.mark.parametrize(("variant", "in_segmentation"), [("reference", 1.0), ("default", 10.0)])
def test_reference_counts_positions_on_the_ground_in_stage_1_alone(variant, in_segmentation):
    backbone = ScaleMAEBackbone(scalemae(3), RGB)
    method = SpectralX(variant)
    method.apply(backbone)
    assert backbone.metres_a_pixel == 10.0
    method.begin_stage(backbone, "segmentation")
    assert backbone.metres_a_pixel == in_segmentation


@pytest.mark.parametrize(("variant", "wavelengths"), [("reference", OHS.wavelengths), ("default", MTS12.wavelengths)])
def test_reference_codes_the_wavelengths_of_ohs_whatever_the_sensor(make_backbone, variant, wavelengths):
    backbone = make_backbone(24)
    backbone.sensor = MTS12
    SpectralX(variant).apply(backbone)
    code = backbone.tokenizer.core.wavelengths
    torch.testing.assert_close(code, wavelength_code(wavelengths, *code.shape))


@pytest.mark.parametrize("bands", [3, 7, 13, 24, 32])
@pytest.mark.parametrize("patch_size", [8, 14, 16])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_any_bands_patch_and_grid_at_batch_size_one(make_backbone, bands, patch_size, grid):
    torch.manual_seed(0)
    method = SpectralX()
    backbone = adapted(method, make_backbone(bands, patch_size, (4 * patch_size, 4 * patch_size)), "segmentation")
    images = torch.randn(1, bands, grid[0] * patch_size, grid[1] * patch_size)
    for features in backbone(images):
        assert features.shape == (1, 32, *grid)
        assert features.isfinite().all()


def test_state_survives_saving_and_loading(make_backbone, tmp_path):
    torch.manual_seed(0)
    method = SpectralX()
    backbone = adapted(method, make_backbone(), "segmentation")
    wake_up(backbone)
    images = torch.randn(2, 5, 32, 32)
    step(method, backbone, images, "segmentation")
    torch.save(backbone.state_dict(), tmp_path / "state.pt")
    other = adapted(SpectralX(), make_backbone(), "segmentation")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for a, b in zip(backbone.eval()(images), other.eval()(images), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_twice_with_one_seed_is_identical(make_backbone, variant):
    def train() -> list[float]:
        torch.manual_seed(3)
        method = SpectralX(variant)
        backbone = make_backbone()
        method.apply(backbone)
        losses = []
        for stage in method.stages:
            method.begin_stage(backbone, stage)
            backbone.train()
            optimizer = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=1e-3)
            for _ in range(3):
                optimizer.zero_grad()
                losses.append(step(method, backbone, torch.randn(2, 5, 32, 32), stage).item())
                optimizer.step()
        return losses

    first = train()
    assert first == train()
    assert len(set(first)) == 6


def test_balance_loss_is_weighted_and_taken_once(make_backbone):
    losses = []
    for weight in (1e-2, 1.0):
        torch.manual_seed(0)
        method = SpectralX(balance_weight=weight)
        backbone = adapted(method, make_backbone(), "reconstruction")
        backbone(torch.randn(2, 5, 32, 32))
        losses.append(method.extra_loss(backbone).item())
        assert method.extra_loss(backbone) is None
    assert losses[1] == pytest.approx(100 * losses[0])
    assert losses[0] > 0


@pytest.mark.parametrize("options", [{"variant": "reference"}, {"balance_weight": 0.0}, {"aomoa": False}], ids=str)
def test_no_balance_loss_where_it_is_not_used(make_backbone, options):
    method = SpectralX(**options)
    backbone = adapted(method, make_backbone(), "reconstruction")
    backbone(torch.randn(2, 5, 32, 32))
    assert method.extra_loss(backbone) is None


def test_beginning_a_stage_again_changes_nothing(make_backbone):
    method = SpectralX()
    backbone = adapted(method, make_backbone(), "segmentation")
    adapter = backbone.after_tap[0]
    method.begin_stage(backbone, "segmentation")
    assert all(tap is adapter for tap in backbone.after_tap)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hyper_tokenizer": False}, "are_adapter=false"),
        ({"top_k": 5}, "lower top_k"),
        ({"experts": 0}, "option experts"),
        ({"variant": "repaired"}, "option variant"),
    ],
)
def test_options_that_cannot_work_are_refused_with_the_way_out(options, message):
    with pytest.raises(SpectralBenchError, match=message):
        build_method("spectralx", options)


def test_a_width_that_is_no_multiple_of_sixteen_is_refused(make_backbone):
    with pytest.raises(SpectralBenchError, match="multiple of 16"):
        SpectralX().apply(make_backbone(width=40))


def test_a_gated_mlp_is_refused(make_backbone):
    from timm.layers import SwiGLU

    backbone = make_backbone()
    backbone.blocks[1].mlp = SwiGLU(32, 64)
    with pytest.raises(SpectralBenchError, match="block 1"):
        SpectralX().apply(backbone)


@pytest.mark.parametrize(("name", "side"), [("vit_micro", 8), ("dinov2_s", 16)])
def test_the_spectral_branch_is_at_most_as_wide_as_a_224_px_image_asks_for(name, side):
    with torch.device("meta"):
        backbone = build_backbone(name, SENTINEL2)
        SpectralX().apply(backbone)
    assert backbone.tokenizer.core.grid == (side, side)
