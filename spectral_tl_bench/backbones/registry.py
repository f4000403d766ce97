"""The backbones by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.backbones.entry import DECODER, HEADS, BackboneEntry
from spectral_tl_bench.backbones.loading import as_it_is, flip_projection, timm_weights, torchgeo_weights
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import Registry, split_file

if TYPE_CHECKING:
    from spectral_tl_bench.backbones.base import Backbone


def _late(reference: str, *first: str) -> Callable[..., Any]:
    """A function of a family, imported when it is called: names are listed without loading timm and torchgeo.

    Args:
        reference: ``module:function`` in this package.
        first: Arguments before those of the call.
    """
    module, _, name = reference.partition(":")

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"spectral_tl_bench.backbones.{module}"), name)(*first, *arguments)

    return call


_VIT = _late("vit:VisionTransformerBackbone")
_DOFA = _late("dofa:DOFABackbone")
_SPECAWARE = _late("specaware:SpecAwareBackbone")
_SPECTRAL_MAE = _late("spectral_mae:SpectralMAEBackbone")
_DOFA_EXTRAS = (*HEADS, *DECODER, "projector.")

_ENTRIES = (
    BackboneEntry(
        "vit_micro",
        "ViT, 192 wide, 8 deep, patch 8, masked autoencoder on simulated RGB pictures: the small one of preset quick",
        _late("vit:micro"),
        _VIT,
        embedded="vit_micro.safetensors",
        small=True,
    ),
    BackboneEntry(
        "vit_s_mae",
        "ViT-S/16, 384 wide, 12 deep, supervised on ImageNet-21k (no masked autoencoder of this size was released)",
        _late("vit:from_timm", "vit_small_patch16_224"),
        _VIT,
        timm_weights("vit_small_patch16_224.augreg_in21k_ft_in1k"),
    ),
    BackboneEntry(
        "vit_b_mae",
        "ViT-B/16, 768 wide, 12 deep, masked autoencoder on ImageNet (CC BY-NC)",
        _late("vit:from_timm", "vit_base_patch16_224"),
        _VIT,
        timm_weights("vit_base_patch16_224.mae"),
    ),
    BackboneEntry(
        "vit_l_mae",
        "ViT-L/16, 1024 wide, 24 deep, masked autoencoder on ImageNet (CC BY-NC)",
        _late("vit:from_timm", "vit_large_patch16_224"),
        _VIT,
        timm_weights("vit_large_patch16_224.mae"),
    ),
    BackboneEntry(
        "scalemae_l",
        "Scale-MAE ViT-L/16 on fMoW RGB, positions in metres on the ground",
        _late("scalemae:make_large"),
        _late("scalemae:ScaleMAEBackbone"),
        torchgeo_weights("ScaleMAELarge16_Weights", "FMOW_RGB"),
        # The table of positions in its state is never used: positions depend on the ground sampling distance.
        ignorable=(*HEADS, *DECODER, "pos_embed", "fpn.", "fcn.", "fcn_high.", "fcn_low.", "pos_emb_projection."),
    ),
    BackboneEntry(
        "satmaepp_l",
        "SatMAE++ ViT-L/16 on fMoW RGB, multi-scale masked autoencoder (Apache-2.0)",
        _late("vit:from_timm", "vit_large_patch16_224"),
        _VIT,
        release="the ViT-L checkpoint of https://huggingface.co/mubashir04/checkpoint_ViT-L_pretrain_fmow_rgb",
        convert=flip_projection,
        ignorable=(*HEADS, *DECODER, "proj_up_", "up_block"),
    ),
    *(
        BackboneEntry(
            f"dinov2_{letter}",
            f"DINOv2 ViT-{letter.upper()}/14, {width} wide, {depth} deep, self-distilled on photographs (Apache-2.0)",
            _late("vit:from_timm", f"vit_{size}_patch14_dinov2"),
            _VIT,
            timm_weights(f"vit_{size}_patch14_dinov2.lvd142m"),
        )
        for letter, size, width, depth in (("s", "small", 384, 12), ("b", "base", 768, 12), ("l", "large", 1024, 24))
    ),
    BackboneEntry(
        "dinov3_l_sat",
        "DINOv3 ViT-L/16 on 493 M satellite images, rotary positions (DINOv3 licence)",
        _late("vit:from_timm", "vit_large_patch16_dinov3"),
        _late("dinov3:DINOv3Backbone"),
        timm_weights("vit_large_patch16_dinov3.sat493m"),
    ),
    BackboneEntry(
        "dofa_b",
        "DOFA ViT-B/16, patch embedding generated from wavelengths",
        _late("dofa:make", "dofa_base_patch16_224"),
        _DOFA,
        torchgeo_weights("DOFABase16_Weights", "DOFA_MAE"),
        convert=as_it_is,
        ignorable=_DOFA_EXTRAS,
        from_wavelengths=True,
    ),
    BackboneEntry(
        "dofa_l",
        "DOFA ViT-L/16, patch embedding generated from wavelengths",
        _late("dofa:make", "dofa_large_patch16_224"),
        _DOFA,
        torchgeo_weights("DOFALarge16_Weights", "DOFA_MAE"),
        convert=as_it_is,
        ignorable=_DOFA_EXTRAS,
        from_wavelengths=True,
    ),
    BackboneEntry(
        "panopticon_b",
        "Panopticon ViT-B/14, attention across bands that are known by their wavelengths",
        _late("panopticon:make_base"),
        _late("panopticon:PanopticonBackbone"),
        torchgeo_weights("Panopticon_Weights", "VIT_BASE14"),
        convert=_late("panopticon:convert"),
        from_wavelengths=True,
    ),
    BackboneEntry(
        "copernicusfm_b",
        "Copernicus-FM ViT-B/16, patch embedding generated from wavelengths and bandwidths",
        _late("copernicusfm:make_base"),
        _late("copernicusfm:CopernicusFMBackbone"),
        torchgeo_weights("CopernicusFM_Base_Weights", "CopernicusFM_ViT"),
        convert=as_it_is,
        from_wavelengths=True,
    ),
    *(
        BackboneEntry(
            f"spectral_mae_{letter}",
            f"Spectral masked autoencoder, {size}, a token for each band of a patch (declared approximation)",
            _late(f"spectral_mae:make_{name}"),
            _SPECTRAL_MAE,
            convert=_late("spectral_mae:convert"),
            embedded="spectral_mae_micro.safetensors" if letter == "micro" else None,
            from_wavelengths=True,
            band_tokens=True,
            small=letter == "micro",
        )
        for letter, name, size in (("micro", "micro", "192 wide, 8 deep, patch 8"), ("b", "base", "ViT-B/16"))
    ),
    *(
        BackboneEntry(
            f"specaware_{letter}",
            f"SpecAware, {size}, patch embedding made for every image from its bands (declared approximation)",
            _late(f"specaware:make_{name}"),
            _SPECAWARE,
            embedded="specaware_micro.safetensors" if letter == "micro" else None,
            convert=as_it_is,
            ignorable=DECODER,
            from_wavelengths=True,
            small=letter == "micro",
        )
        for letter, name, size in (
            ("micro", "micro", "192 wide, 6 deep, patch 8"),
            ("b", "base", "ViT-B/8"),
            ("l", "large", "ViT-L/8"),
        )
    ),
)
BACKBONES = Registry(
    "backbone", "run `spectral-bench backbones` to see them all", {entry.name: entry for entry in _ENTRIES}
)


def backbone_names() -> list[str]:
    """Names of every backbone: those of this package, then those of installed plugins."""
    return BACKBONES.names()


def backbone_entry(name: str) -> BackboneEntry:
    """Return the backbone of a registered name, or of ``path/to/file.py:NAME``.

    Raises:
        UnknownNameError: If there is none.
        SpectralBenchError: If a plugin cannot be imported, or is no entry, or one of another name.
    """
    entry = BACKBONES.load(name)
    if not isinstance(entry, BackboneEntry) or (split_file(name)[0] is None and entry.name != name):
        raise SpectralBenchError(
            f"there is no BackboneEntry named {name!r} where it is registered; docs/add-a-backbone.md shows a complete "
            "example"
        )
    return entry


def build_backbone(name: str, sensor: Sensor, weights: str = "none") -> Backbone:
    """Build a backbone for a sensor.

    Args:
        name: Registered name.
        sensor: Sensor of the images; fixes the number of bands.
        weights: "none" (random initialisation from torch's generator), "hub", "embedded" (those that come with the
            package), or the path of a .pth or .safetensors file.

    Returns:
        The backbone, every parameter training.

    Raises:
        UnknownNameError: If the name is not registered.
        CheckpointError: If the weights cannot be had or do not fit.
    """
    return backbone_entry(name).build(sensor, weights)


def weights_fingerprint(name: str, weights: str) -> str:
    """What a run records of its weights: "none", "hub", or the digest of the file's content.

    Embedded weights are recorded as a file of the same content is: they are the same run.

    Args:
        name: Registered name of the backbone.
        weights: As for :func:`build_backbone`.

    Raises:
        UnknownNameError: If the name is not registered.
        CheckpointError: If a file is missing, or no weights of the backbone come with the package.
    """
    return backbone_entry(name).fingerprint(weights)
