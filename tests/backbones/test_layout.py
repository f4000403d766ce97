import pytest
import torch
from small_vits import small_vit

from spectral_tl_bench.backbones import Layout


def test_splitting_and_joining_restores_the_tokens():
    x = torch.randn(2, 7, 4)
    layout = Layout(prefix=3)
    prefix, patches = layout.split(x)
    assert (prefix.shape[1], patches.shape[1]) == (3, 4)
    assert torch.equal(layout.join(prefix, patches), x)


def test_maps_are_filled_row_by_row():
    layout = Layout(grid=(2, 3))
    patches = torch.arange(6.0).view(1, 6, 1)
    maps = layout.to_map(patches)
    assert torch.equal(maps[0, 0], torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    assert torch.equal(layout.from_map(maps), patches)


def test_dropped_patches_are_zero_on_the_map():
    layout = Layout(grid=(2, 2), positions=torch.tensor([[3, 0], [1, 2]]))
    patches = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    maps = layout.to_map(patches)
    assert torch.equal(maps[:, 0], torch.tensor([[[2.0, 0], [0, 1]], [[0, 3], [4, 0]]]))
    assert torch.equal(layout.from_map(maps), patches)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_a_backbone_keeps_its_layout_up_to_date(prefix):
    backbone = small_vit(prefix)
    tokens = backbone.embed(torch.randn(2, 13, 24, 32))
    backbone.encode(tokens)
    assert backbone.layout == Layout(prefix, (3, 4), None)
    backbone.encode(tokens.keep(torch.tensor([[4, 2, 9], [0, 1, 2]])).keep(torch.tensor([[2, 0], [1, 1]])))
    assert torch.equal(backbone.layout.positions, torch.tensor([[9, 4], [1, 1]]))
