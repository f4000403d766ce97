"""Checks of backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spectral_tl_bench.backbones import BackboneEntry
from spectral_tl_bench.backbones.base import NUM_TAPS
from spectral_tl_bench.methods import method_class
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2
from spectral_tl_bench.testing.contracts import ContractError, require
from spectral_tl_bench.testing.methods import adapted
from spectral_tl_bench.utils.errors import SpectralBenchError


def check_backbone(entry: BackboneEntry) -> None:
    """Check a backbone with random weights: its feature maps, and that patches can be left out.

    Args:
        entry: The entry. Replace its ``make`` (``dataclasses.replace``) by one of a few small blocks for a quick test.

    Raises:
        ContractError: If it breaks a contract of docs/add-a-backbone.md.
    """
    if not isinstance(entry, BackboneEntry):
        raise ContractError(f"{entry!r} is no BackboneEntry")
    for check in BACKBONE_CHECKS:
        check(entry)


def check_taps(entry: BackboneEntry) -> None:
    """There are four maps, after a quarter, half, three quarters and all of the blocks, for any sensor and size."""
    with torch.device("meta"):
        backbone = entry.build(OHS)
        side = 6 * backbone.patch_size
        features = backbone(torch.empty(2, len(OHS.bands), side, 2 * side))
    shapes, wanted = [tuple(f.shape) for f in features], [(2, backbone.width, 6, 12)] * NUM_TAPS
    require(shapes == wanted, f"{entry.name} gives feature maps {shapes} instead of {wanted}")
    depth = len(backbone.blocks)
    taps = tuple(max(0, quarter * depth // 4 - 1) for quarter in (1, 2, 3, 4))
    require(tuple(backbone.taps) == taps, f"{entry.name} is tapped after blocks {backbone.taps} instead of {taps}")


def check_bands_and_positions(entry: BackboneEntry) -> None:
    """Features depend on every band and on where a patch lies, unless the backbone declares otherwise."""
    torch.manual_seed(0)
    backbone = entry.build(SENTINEL2).eval()
    side = 2 * backbone.patch_size
    images = torch.randn(1, len(SENTINEL2.bands), side, side, requires_grad=True)
    backbone(images)[-1].square().sum().backward()
    assert images.grad is not None
    unused = [
        band.name
        for band, used in zip(SENTINEL2.bands, images.grad.abs().amax(dim=(0, 2, 3)) > 0, strict=True)
        if not used and band.name not in backbone.unread_bands
    ]
    require(not unused, f"features of {entry.name} do not depend on the bands {', '.join(unused)}")
    # Neighbouring patches change places; what is inside them stays.
    exchanged = backbone(images.detach().roll(backbone.patch_size, dims=3))[-1]
    same = torch.allclose(exchanged, backbone(images)[-1].roll(1, dims=3), atol=1e-4)
    require(same != backbone.knows_positions, f"features of {entry.name} do not depend on where a patch lies")


def check_kept_patches(entry: BackboneEntry) -> None:
    """Patches that are kept, in any order, keep their positions, and dropping twice is dropping once."""
    torch.manual_seed(0)
    backbone = entry.build(MTS12).eval()
    tokens = backbone.embed(torch.randn(2, len(MTS12.bands), 3 * backbone.patch_size, 2 * backbone.patch_size))
    whole = backbone.encode(tokens)
    for a, b in zip(backbone.encode(tokens.keep(torch.arange(6).expand(2, -1))), whole, strict=True):
        require(torch.allclose(a, b, rtol=1e-4, atol=1e-4), f"{entry.name} changes features where all patches are kept")
    order = torch.tensor([[5, 1, 0, 2, 4, 3], [0, 3, 1, 2, 5, 4]])
    shuffled = backbone.encode(tokens.keep(order))[-1]
    expected = whole[-1].gather(1, order.unsqueeze(-1).expand_as(shuffled))
    same = torch.allclose(shuffled, expected, rtol=1e-4, atol=1e-4)
    require(same, f"{entry.name} gives a patch other features when the patches stand in another order")
    twice = tokens.keep(torch.tensor([[3, 0, 2], [3, 0, 2]])).keep(torch.tensor([[2, 0], [2, 0]]))
    once = tokens.keep(torch.tensor([[2, 3], [2, 3]]))
    same = torch.equal(backbone.encode(twice)[-1], backbone.encode(once)[-1])
    require(same, f"{entry.name} gives other features where patches are left out in two steps")


def check_adaptable(entry: BackboneEntry) -> None:
    """Low-rank updates of its linear layers, the most common kind of method, can be put into its blocks."""
    lora: Any = method_class("lora")
    backbone = entry.build(MTS12)
    try:
        adapted(lora, backbone=backbone)
    except SpectralBenchError as error:
        raise ContractError(f"methods cannot adapt {entry.name}: {error}") from error


BACKBONE_CHECKS: tuple[Callable[[BackboneEntry], None], ...] = (
    check_taps,
    check_bands_and_positions,
    check_kept_patches,
    check_adaptable,
)
