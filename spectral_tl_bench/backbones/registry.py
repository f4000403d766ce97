"""The backbones by name, and how one is built for a sensor with or without pretrained weights."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.errors import CheckpointError, UnknownNameError
from spectral_tl_bench.sensors import Sensor

if TYPE_CHECKING:
    from torch import Tensor

    from spectral_tl_bench.backbones.base import Backbone

StateDict = dict[str, "Tensor"]


@dataclasses.dataclass(frozen=True)
class BackboneEntry:
    """One backbone a user can name.

    Attributes:
        name: What is typed after ``--backbone``.
        summary: One line for ``spectral-bench backbones``.
        make: Builds the bare model for a number of bands.
        wrap: Turns the model into a :class:`Backbone` for a sensor.
        timm_name: timm's name of the pretrained model, for ``--weights hub``; None where there is no such model.
        projection: Key of the patch projection in the model's state.
        ignorable: Prefixes of checkpoint keys that are not part of the encoder.
    """

    name: str
    summary: str
    make: Callable[[int], Any]
    wrap: Callable[[Any, Sensor], Backbone]
    timm_name: str | None = None
    projection: str = "patch_embed.proj.weight"
    ignorable: tuple[str, ...] = ("head.", "fc_norm.", "decoder", "mask_token")


def _vit(timm_name: str) -> Callable[[int], Any]:
    def make(in_chans: int) -> Any:
        from spectral_tl_bench.backbones.vit import from_timm

        return from_timm(timm_name, in_chans)

    return make


def _micro(in_chans: int) -> Any:
    from spectral_tl_bench.backbones.vit import micro

    return micro(in_chans)


def _wrap_vit(vit: Any, sensor: Sensor) -> Backbone:
    from spectral_tl_bench.backbones.vit import VisionTransformerBackbone

    return VisionTransformerBackbone(vit, sensor)


_ENTRIES = (
    BackboneEntry("vit_micro", "ViT, width 192, depth 8, patch 8: the small one of the quick preset", _micro, _wrap_vit),
    BackboneEntry(
        "vit_s_mae",
        "ViT-S/16, 384 wide, 12 deep",
        _vit("vit_small_patch16_224"),
        _wrap_vit,
        "vit_small_patch16_224",
    ),
    BackboneEntry(
        "vit_b_mae",
        "ViT-B/16, 768 wide, 12 deep, masked autoencoder on ImageNet (CC BY-NC)",
        _vit("vit_base_patch16_224"),
        _wrap_vit,
        "vit_base_patch16_224.mae",
    ),
    BackboneEntry(
        "vit_l_mae",
        "ViT-L/16, 1024 wide, 24 deep, masked autoencoder on ImageNet (CC BY-NC)",
        _vit("vit_large_patch16_224"),
        _wrap_vit,
        "vit_large_patch16_224.mae",
    ),
)
BACKBONES: dict[str, BackboneEntry] = {entry.name: entry for entry in _ENTRIES}


def backbone_entry(name: str) -> BackboneEntry:
    """Return the registered backbone of a name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, BACKBONES, "run `spectral-bench backbones` to see them all")
    return BACKBONES[name]


def build_backbone(name: str, sensor: Sensor, weights: str = "none") -> Backbone:
    """Build a backbone for a sensor.

    Args:
        name: Registered name.
        sensor: Sensor of the images; fixes the number of bands.
        weights: "none" (random initialisation from torch's generator), "hub", or the path of a .pth or .safetensors
            file.

    Returns:
        The backbone, every parameter training.

    Raises:
        UnknownNameError: If the name is not registered.
        CheckpointError: If the weights cannot be had or do not fit.
    """
    entry = backbone_entry(name)
    bands = len(sensor.bands)
    model = entry.make(bands)
    if weights != "none":
        state = _from_hub(entry) if weights == "hub" else read_state(Path(weights))
        _load(entry, model, state, weights, bands)
    return entry.wrap(model, sensor)


def weights_fingerprint(weights: str) -> str:
    """What a run records of its weights: "none", "hub", or the digest of the file's content."""
    if weights in ("none", "hub"):
        return weights
    path = Path(weights)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}; --weights takes hub, none or a .pth or .safetensors file")
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def read_state(path: Path) -> StateDict:
    """Read tensors from a .safetensors file or a .pth that holds nothing but tensors.

    Raises:
        CheckpointError: If the file is missing, damaged, or would run code on loading.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}; --weights takes hub, none or a .pth or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a plain file of weights: {reason}") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no table of named tensors")
    return content


def _from_hub(entry: BackboneEntry) -> StateDict:
    if entry.timm_name is None:
        raise CheckpointError(f"{entry.name} has no weights on a hub; use --weights none or a file")
    import timm

    try:
        model = timm.create_model(entry.timm_name, pretrained=True, num_classes=0)
    except Exception as error:  # hub clients raise many types; all mean "not to be had"
        raise CheckpointError(
            f"the weights of {entry.name} cannot be downloaded ({type(error).__name__}): fetch timm's "
            f"{entry.timm_name!r} on a machine with network and pass the file with --weights PATH, or use --weights none"
        ) from error
    state: StateDict = model.state_dict()
    return state


def _load(entry: BackboneEntry, model: Any, state: StateDict, source: str, bands: int) -> None:
    from timm.models import adapt_input_conv

    state = {k: v for k, v in state.items() if not k.startswith(entry.ignorable)}
    expected = model.state_dict()
    projection = state.get(entry.projection)
    if projection is not None and projection.shape[1] == 3 and bands != 3:
        # Keeps the sum over input channels, so that a grey image gives the tokens that the RGB model gave.
        state[entry.projection] = adapt_input_conv(bands, projection)
    missing = sorted(set(expected) - set(state))
    unexpected = sorted(set(state) - set(expected))
    wrong = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    if missing or unexpected or wrong:
        problem = (
            f"lacks {missing[0]}"
            if missing
            else f"has the unknown key {unexpected[0]}"
            if unexpected
            else f"has {wrong[0]} of shape {tuple(state[wrong[0]].shape)} instead of {tuple(expected[wrong[0]].shape)}"
        )
        raise CheckpointError(f"{source} does not fit {entry.name}: it {problem}; name the backbone it was saved from")
    model.load_state_dict(state)
