"""Parameter counts of ViT-L with 32 bands at 224 px, as published."""

import pytest
import torch
from torch import nn

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.base import Backbone
from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.sensors import OHS

# The publication counts the ViT's last norm, which comes after the last tap and is no part of a backbone here.
FINAL_NORM = 2 * 1024


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def vit_large(method: SpectralX) -> Backbone:
    with torch.device("meta"):
        backbone = build_backbone("vit_l_mae", OHS)
        method.apply(backbone)
        for stage in method.stages:
            method.begin_stage(backbone, stage)
    return backbone


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"aomoa": False, "are_adapter": False}, 372_752),
        ({"are_adapter": False}, 372_752 + 7_766_272),
        ({}, 372_752 + 7_766_272 + 3_671_665),
    ],
)
def test_reference_trains_the_published_numbers(options, expected):
    assert trainable(vit_large(SpectralX("reference", **options))) + FINAL_NORM == expected


def test_are_adapter_is_one_instance_of_the_published_size():
    backbone = vit_large(SpectralX("reference"))
    assert len({id(tap) for tap in backbone.after_tap}) == 1
    assert count(backbone.after_tap) == 3_671_665


def test_hyper_tokenizer_core_has_the_published_sizes():
    core = vit_large(SpectralX("reference")).tokenizer.core
    parts = {name: count(child) for name, child in core.named_children()}
    assert parts == {
        "stem": 1_532_160,
        "spatial_block": 3_152_384,
        "spectral_block": 7_386_064,
        "spatial_match": 526_336,
        "spectral_match": 1_018_656,
        "ffn": 8_390_656,
    }
    assert core.spatial_queries.numel() + core.spectral_queries.numel() == 200_704
    assert count(core) == 22_206_960
    assert trainable(core) == 0


def test_default_allocates_what_reference_allocates_without_the_unused_layers():
    reference = vit_large(SpectralX("reference"))
    unused = sum(p.numel() for name, p in reference.named_parameters() if ".unused." in name)
    assert unused == 2 * 512 * 256 + (784 + 512) * 392 + (784 + 1) * 196 + (512 + 1) * 196
    assert count(vit_large(SpectralX())) == count(reference) - unused
