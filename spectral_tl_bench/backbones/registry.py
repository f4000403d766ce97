"""The backbones by name, and how one is built for a sensor with or without pretrained weights."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spectral_tl_bench.backbones.loading import (
    StateDict,
    adapt_projection,
    as_it_is,
    existing,
    flip_projection,
    load_state,
    read_state,
    timm_weights,
    torchgeo_weights,
)
from spectral_tl_bench.errors import CheckpointError, SpectralBenchError
from spectral_tl_bench.plugins import Registry, split_file
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.weights import fingerprint

if TYPE_CHECKING:
    from spectral_tl_bench.backbones.base import Backbone

HEADS = ("head.", "norm.", "fc_norm.")
"""Prefixes of what follows the last block: features are taken before it, so no checkpoint needs to have it."""
DECODER = ("decoder", "mask_token")
"""Prefixes of what a masked autoencoder has for its pretraining alone."""


@dataclasses.dataclass(frozen=True)
class BackboneEntry:
    """One backbone a user can name.

    Attributes:
        name: What is typed after ``--backbone``.
        summary: One line for ``spectral-bench backbones``.
        make: Builds the bare model, with random weights, for a number of bands.
        wrap: Turns the model into a :class:`Backbone` for a sensor.
        hub: Fetches the pretrained weights, for ``--weights hub``; None where no hub serves them.
        release: Address of weights that no hub serves; None where there are none.
        embedded: File of pretrained weights that comes with the package, for ``--weights embedded``: its name beside
            this module, or a whole path for the backbone of another package. None where there is none.
        convert: Fits the tensors of a checkpoint to the bare model for a sensor.
        ignorable: Prefixes of names outside the encoder, which a checkpoint may have or lack.
        from_wavelengths: Whether the tokenizer makes tokens of any bands from their wavelengths; see ``Tokenizer.see``.
    """

    name: str
    summary: str
    make: Callable[[int], Any]
    wrap: Callable[[Any, Sensor], Backbone]
    hub: Callable[[], StateDict] | None = None
    release: str | None = None
    embedded: str | None = None
    convert: Callable[[StateDict, Sensor], StateDict] = adapt_projection
    ignorable: tuple[str, ...] = (*HEADS, *DECODER)
    from_wavelengths: bool = False

    @property
    def default_weights(self) -> str:
        """What ``--weights`` means where nothing is said: what comes with the package, else a hub's."""
        return "hub" if self.embedded is None else "embedded"

    def build(self, sensor: Sensor, weights: str = "none") -> Backbone:
        """Build the backbone for a sensor; see :func:`build_backbone`."""
        bands = len(sensor.bands)
        fetched = None if weights == "none" else self._fetch(weights)
        state = None if fetched is None else self.convert(fetched, sensor)
        model = self.make(bands)
        if state is not None:
            load_state(model, state, ignorable=self.ignorable, name=self.name, source=weights)
        backbone = self.wrap(model, sensor)
        given = set() if fetched is None or state is None else self._given(fetched, state, sensor)
        loaded = {id(p) for name, p in model.named_parameters() if name in given}
        backbone.drawn = frozenset(name for name, p in backbone.named_parameters() if id(p) not in loaded)
        return backbone

    def _given(self, fetched: StateDict, state: StateDict, sensor: Sensor) -> set[str]:
        """Names in the bare model of what a checkpoint alone determines: converted again, it comes out the same."""
        # A second draw, from a copy of the generator: what depends on chance differs from the first.
        with torch.random.fork_rng(devices=[]):
            again = self.convert(fetched, sensor)
        return {
            name
            for name, tensor in state.items()
            if not name.startswith(self.ignorable) and (again[name] is tensor or torch.equal(again[name], tensor))
        }

    def fingerprint(self, weights: str) -> str:
        """What a run records of its weights; see :func:`weights_fingerprint`."""
        return weights if weights in ("none", "hub") else fingerprint(existing(self._file(weights)))

    def _file(self, weights: str) -> Path:
        """The file that a user means."""
        if weights != "embedded":
            return Path(weights)
        if self.embedded is None:
            raise CheckpointError(
                f"no weights of {self.name} come with the package: use --weights hub or none, or pass a file with "
                "--weights PATH"
            )
        return Path(__file__).parent / self.embedded

    def _fetch(self, weights: str) -> StateDict:
        if weights != "hub":
            return read_state(self._file(weights))
        if self.hub is None:
            named = "none" if self.embedded is None else "embedded or none"
            advice = f"use --weights {named} or pass a file with --weights PATH"
            if self.release is not None:
                advice = f"download {self.release} and pass the file with --weights PATH, or use --weights none"
            raise CheckpointError(f"no hub serves weights of {self.name}: {advice}")
        return self.hub()


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
_DOFA_EXTRAS = (*HEADS, *DECODER, "projector.")

_ENTRIES = (
    BackboneEntry(
        "vit_micro",
        "ViT, 192 wide, 8 deep, patch 8, masked autoencoder on simulated RGB pictures: the small one of preset quick",
        _late("vit:micro"),
        _VIT,
        embedded="vit_micro.safetensors",
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
