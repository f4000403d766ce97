"""Every registered backbone a few layers deep, with the parts and the names of the real one."""

import dataclasses

import timm
import torch
from torch import nn
from torchgeo.models import DOFA, CopernicusFM, ScaleMAE
from torchgeo.models.panopticon import PanopticonPE

from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.backbones.specaware import SpecAware
from spectral_tl_bench.backbones.spectral_mae import SpectralMAE
from spectral_tl_bench.sensors import Band, Sensor
from spectral_tl_bench.utils.registry import BACKBONES

RGB = Sensor(
    name="rgb",
    bands=(
        Band(name="R", wavelength=665),
        Band(name="G", wavelength=560),
        Band(name="B", wavelength=490, bandwidth=66),
    ),
    rgb=("R", "G", "B"),
)

SIZE = {"embed_dim": 64, "depth": 4, "num_heads": 4}


def vit(bands):
    return timm.create_model("vit_base_patch16_224", num_classes=0, in_chans=bands, **SIZE)


def scalemae(bands, **options):
    return ScaleMAE(in_chans=bands, num_classes=0, **SIZE, **options)


def dinov2(bands):
    return timm.create_model("vit_base_patch14_dinov2", num_classes=0, in_chans=bands, **SIZE)


def dinov3(bands):
    return timm.create_model("vit_large_patch16_dinov3", num_classes=0, in_chans=bands, **SIZE)


def dofa(bands, **options):
    return DOFA(patch_size=16, num_classes=0, **SIZE, **options)


def copernicusfm(bands):
    return CopernicusFM(**SIZE)


def panopticon(bands):
    """What torchgeo's Panopticon puts together, in its order."""
    model = timm.create_model("vit_base_patch14_dinov2", num_classes=0, img_size=518, **SIZE)
    fusion = {"attn_cfg": {"num_heads": 16}}
    model.patch_embed = PanopticonPE(96, model.embed_dim, 14, fusion)
    return model


def spectral_mae(bands):
    return SpectralMAE(image_size=64, patch_size=8, width=64, depth=4, num_heads=4)


def specaware(bands):
    return SpecAware(64, 4, 4)


SMALL = {
    "vit_s_mae": vit,
    "vit_b_mae": vit,
    "vit_l_mae": vit,
    "satmaepp_l": vit,
    "scalemae_l": scalemae,
    "dinov2_s": dinov2,
    "dinov2_b": dinov2,
    "dinov2_l": dinov2,
    "dinov3_l_sat": dinov3,
    "dofa_b": dofa,
    "dofa_l": dofa,
    "panopticon_b": panopticon,
    "copernicusfm_b": copernicusfm,
    "spectral_mae_micro": spectral_mae,
    "spectral_mae_b": spectral_mae,
    "specaware_micro": specaware,
    "specaware_b": specaware,
    "specaware_l": specaware,
}

FAMILIES = list(
    {(SMALL.get(name, name), backbone_entry(name).wrap): name for name in reversed(BACKBONES.built_in)}.values()
)
"""One backbone of each kind: the others of it differ in size alone, and none in their small models."""


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter, so that none is left out of a comparison by being 0."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def small_entry(name, seed=0):
    """The entry of a backbone with a small model of the same family in it; those without a small one as they are."""
    entry = backbone_entry(name)
    make = SMALL.get(name, entry.make)
    return dataclasses.replace(entry, make=lambda bands: randomise(make(bands), seed))
