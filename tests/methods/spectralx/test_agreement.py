"""Every part, and the whole, computes what the published equations say: weights carried over to a second statement."""

import published_spectralx as published
import pytest
import torch
from torch import Tensor, nn

from spectral_tl_bench.methods.spectralx.aomoa import AoMoALinear
from spectral_tl_bench.methods.spectralx.are_adapter import AreAdapter
from spectral_tl_bench.methods.spectralx.hyper_tokenizer import HyperTokenizer
from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.sensors import OHS

WIDTH, PATCH, GRID = 64, 16, (4, 4)
SIDE = GRID[0] * PATCH // 8


@pytest.fixture(autouse=True)
def double_precision():
    """Rounding would hide nothing here, but a token chosen otherwise for a tie would look like another function."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def shaken(module: nn.Module) -> nn.Module:
    """Every weight and statistic away from its start, where layers of 0 or 1 would hide a difference."""
    torch.manual_seed(1)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            value.data.uniform_(0.5, 2)
        elif value.is_floating_point() and not name.endswith("wavelengths"):
            spread = 0.3 if value.ndim < 2 else value[0].numel() ** -0.5
            value.data += spread * torch.randn_like(value)
    return module.eval()


def close(ours: Tensor, theirs: Tensor) -> bool:
    difference = (ours - theirs).abs().max().item()
    assert theirs.std() > 1e-2
    return difference <= 1e-4


def maps() -> tuple[Tensor, Tensor]:
    return torch.randn(3, SIDE, SIDE, WIDTH // 2), torch.randn(3, WIDTH // 2, SIDE**2)


@torch.no_grad()
def test_hyper_tokenizer_agrees():
    tokenizer = shaken(HyperTokenizer(OHS, WIDTH, PATCH, GRID))
    images = torch.randn(2, 32, GRID[0] * PATCH, GRID[1] * PATCH)
    tokens, context = tokenizer(images)
    for i, image in enumerate(images):
        expected = published.hyper_tokenizer(
            image, tokenizer.state_dict(), list(OHS.wavelengths), OHS.ground_sampling_distance
        )
        assert close(tokens[i], expected[0])
        assert close(context["spatial"][i].flatten(0, 1), expected[1])
        assert close(context["spectral"][i], expected[2])


@torch.no_grad()
@pytest.mark.parametrize("features", [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)], ids=["fc1", "fc2"])
def test_aomoa_agrees(features):
    layer = shaken(AoMoALinear(nn.Linear(*features), experts=4, top_k=2, zero_up=False, balanced=False))
    x = torch.randn(2, 7, features[0])
    for ours, given in zip(layer(x), x, strict=True):
        assert close(ours, published.aomoa(given, layer.state_dict()))


@torch.no_grad()
@pytest.mark.parametrize("assignment", ["hard", "soft"])
def test_are_adapter_agrees(assignment, make_tokens):
    adapter = shaken(AreAdapter(WIDTH, PATCH, GRID, assignment))
    tokens = make_tokens(GRID, PATCH, GRID, batch=3, width=WIDTH)
    refined = adapter(tokens.patches, tokens)
    for i in range(3):
        expected = published.are_adapter(
            tokens.patches[i],
            tokens.context["spatial"][i].flatten(0, 1),
            tokens.context["spectral"][i],
            adapter.state_dict(),
            SIDE,
            soft=assignment == "soft",
        )
        assert close(refined[i], expected)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["reference", "default"])
def test_features_of_all_taps_agree(variant, make_backbone):
    """HyperT, then ViT blocks with AoMoA in the MLP of the taps, refined by Are after each of them."""
    backbone = make_backbone(32, PATCH, (GRID[0] * PATCH, GRID[1] * PATCH), WIDTH)
    method = SpectralX(variant)
    method.apply(backbone)
    method.begin_stage(backbone, "segmentation")
    shaken(backbone)
    images = torch.randn(2, 32, GRID[0] * PATCH, GRID[1] * PATCH)
    ours = backbone(images)
    state = backbone.state_dict()
    wavelengths = list(OHS.wavelengths if variant == "reference" else backbone.sensor.wavelengths)
    for i, image in enumerate(images):
        tokens, spatial, spectral = published.hyper_tokenizer(
            image, published.part(state, "tokenizer"), wavelengths, backbone.sensor.ground_sampling_distance
        )
        x = torch.cat([state["cls_token"][0], tokens]) + state["pos_embed"][0]
        for tap, block in enumerate(backbone.blocks):
            x = x + block.attn(block.norm1(x)[None])[0]
            inner = published.gelu(published.aomoa(block.norm2(x), published.part(state, f"blocks.{tap}.mlp.fc1")))
            x = x + published.aomoa(inner, published.part(state, f"blocks.{tap}.mlp.fc2"))
            refined = published.are_adapter(
                x[1:], spatial, spectral, published.part(state, "after_tap.0"), SIDE, soft=variant == "default"
            )
            x = torch.cat([x[:1], refined])
            assert close(ours[tap][i].flatten(1).T, refined)
