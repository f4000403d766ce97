"""Pretrained weights: where they come from, how a file of them is read, and how they are fitted to a model."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.tensors import require_finite

StateDict = dict[str, Tensor]

PATCH_PROJECTION = "patch_embed.proj.weight"

COLOURS = (660.0, 560.0, 490.0)
"""Wavelengths in nm of what an RGB model takes for red, green and blue."""

BESIDE_COLOURS = 0.5
"""Norm of the random contrasts between bands, by that of the RGB kernels, where the colours have their own bands."""


def existing(path: Path) -> Path:
    """Return the path of a file of weights.

    Raises:
        CheckpointError: If there is none.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no weights file {path}; --weights takes embedded, hub, none or the PATH of a .pth or "
            ".safetensors file"
        )
    return path


def read_state(path: Path) -> StateDict:
    """Read tensors from a .safetensors file, or from a .pth that would run no code on loading.

    Half precision becomes single. The tensors of a .pth may lie under "model" or "state_dict". Besides them it may hold
    plain values and the command-line arguments of the training run, as the releases of masked autoencoders do.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds other Python objects; the message names them.
    """
    existing(path)
    try:
        if path.suffix == ".safetensors":
            return _finite(path, load_file(path))
        # A namespace only keeps the attributes it is given, so that rebuilding one runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise CheckpointError(f"{path} is not a plain file of weights: {_reason(error)}") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise CheckpointError(f"{path} holds no table of named tensors")
    return _finite(path, content)


def _finite(path: Path, state: StateDict) -> StateDict:
    require_finite(path, state)
    return _single(state)


def _single(state: StateDict) -> StateDict:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _reason(error: Exception) -> str:
    """What is wrong with a file, in one line, out of an error that also advises to load it unsafely."""
    text = str(error)
    if foreign := re.search(r"GLOBAL (\S+)", text):
        return f"it holds a Python object ({foreign[1]}), which may run code; save its tensors alone and pass that file"
    lines = [line for line in text.rpartition("WeightsUnpickler error:")[2].splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def timm_weights(name: str) -> Callable[[], StateDict]:
    """Take the weights of a timm model from the cache of the Hugging Face hub, or download them.

    Args:
        name: timm's name with the tag of the weights ("vit_base_patch16_224.mae").
    """

    def fetch() -> StateDict:
        from huggingface_hub import hf_hub_url, try_to_load_from_cache

        repository, file = f"timm/{name}", "model.safetensors"
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return read_state(Path(cached))
        return _download(hf_hub_url(repository, file), f"{name}.safetensors")

    return fetch


def torchgeo_weights(enumeration: str, member: str) -> Callable[[], StateDict]:
    """Take the weights that a member of a torchgeo weight enumeration stands for from torch's cache, or download them.

    Args:
        enumeration: Name in ``torchgeo.models`` ("DOFABase16_Weights").
        member: Name in the enumeration ("DOFA_MAE").
    """

    def fetch() -> StateDict:
        import torchgeo.models

        url = getattr(torchgeo.models, enumeration)[member].url
        return _download(url, url.rpartition("/")[2], f" (torchgeo's {enumeration}.{member})")

    return fetch


def url_weights(url: str, name: str) -> Callable[[], StateDict]:
    """Take weights from torch's cache, where they are kept as ``name``, or download them from ``url``."""
    return lambda: _download(url, name)


def _download(url: str, name: str, known_as: str = "") -> StateDict:
    """Read what lies at ``url``, kept as ``name`` where torchgeo's own downloads are kept."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise CheckpointError(
                f"cannot download {url}{known_as}: {error}; download it on a machine with network and pass the file "
                "with --weights PATH, or use --weights none"
            ) from error
    return read_state(path)


def adapt_projection(state: StateDict, sensor: Sensor) -> StateDict:
    """Fit the patch projection of an RGB model to a sensor's C bands, keeping the sum over them.

    The kernels of red, green and blue go to the bands of their wavelengths (:func:`colour_shares`): what looks like a
    photograph is what the model knows. A sensor without colours gets all three on every band, as timm does it.

    Other bands would then be invisible, and to a method that keeps the projection frozen remain so. So each band's
    kernel differs by random weights (from torch's generator) whose sum over the bands is 0: a grey image gives the
    tokens that the RGB model gives it. Their norm, by that of the RGB kernels, is 0.5 beside colours. Beside the spread
    kernels, which tell no spectra apart, it is 1: weaker ones drown in brightness.

    Three bands that are red, green and blue, in any order, get the kernels alone: no band is invisible then.
    """
    from timm.models import adapt_input_conv

    projection, bands = state.get(PATCH_PROJECTION), len(sensor.bands)
    if projection is None or projection.ndim != 4 or projection.shape[1] != 3:
        return state
    shares = colour_shares(sensor.wavelengths)
    if shares is not None and bands == 3 and torch.equal(shares.sum(dim=0), torch.ones(3)):
        return state | {PATCH_PROJECTION: projection[:, shares.argmax(dim=0)]}
    if shares is None:
        kernels, strength = adapt_input_conv(bands, projection), 1.0
    else:
        kernels, strength = torch.einsum("dkhw,kc->dchw", projection, shares.to(projection)), BESIDE_COLOURS
    return state | {PATCH_PROJECTION: kernels + band_contrasts(kernels, strength * projection.norm())}


def colour_shares(wavelengths: Sequence[float]) -> Tensor | None:
    """How much of the kernels of red, green and blue each band gets, 3 x C; every row sums to 1.

    The bands within 25 nm of a colour share its kernel alike, and so do several dates of one band. Where there are
    none, those nearest to it do.

    Args:
        wavelengths: Centre wavelengths of the bands in nm.

    Returns:
        The shares, or None where a colour has no band within 60 nm.
    """
    distances = (torch.tensor(COLOURS).unsqueeze(1) - torch.tensor(wavelengths)).abs()
    nearest = distances.amin(dim=1, keepdim=True)
    if nearest.max() > 60:
        return None
    taken = (distances <= nearest.clamp_min(25)).float()
    return taken / taken.sum(dim=1, keepdim=True)


def band_contrasts(kernels: Tensor, norm: Tensor) -> Tensor:
    """Random weights of Frobenius ``norm`` that sum to 0 over the bands; shaped like D x C x p x p kernels."""
    random = torch.empty_like(kernels).uniform_(-1, 1)
    contrasts = random - random.mean(dim=1, keepdim=True)
    return contrasts * (norm / contrasts.norm())


def flip_projection(state: StateDict, sensor: Sensor) -> StateDict:
    """Like :func:`adapt_projection`, for a model that was trained on images in the order blue, green, red."""
    projection = state.get(PATCH_PROJECTION)
    if projection is not None and projection.ndim == 4:
        state = state | {PATCH_PROJECTION: projection.flip(1)}
    return adapt_projection(state, sensor)


def as_it_is(state: StateDict, sensor: Sensor) -> StateDict:
    """Leave the weights of a model that takes any number of bands as they are."""
    return state


def load_state(model: nn.Module, state: StateDict, *, ignorable: tuple[str, ...], name: str, source: str) -> None:
    """Load weights into a model, every tensor of it or none.

    Args:
        model: The bare model.
        state: Tensors by the model's own names.
        ignorable: Prefixes of names outside the encoder: whether they are in the model or in ``state``, they are left.
        name: Name of the backbone, for the error.
        source: Where the weights come from, for the error.

    Raises:
        CheckpointError: If a name is missing or unknown, or a shape differs; the message names the first.
    """
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith(ignorable)}
    state = {k: v for k, v in state.items() if not k.startswith(ignorable)}
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    wrong = sorted(k for k in expected if k in state and state[k].shape != expected[k].shape)
    shapes = f" ({tuple(state[wrong[0]].shape)} instead of {tuple(expected[wrong[0]].shape)})" if wrong else ""
    problems: tuple[tuple[str, list[str], str], ...] = (
        ("lacks", missing, ""),
        ("has the unknown key", unknown, ""),
        ("has another shape of", wrong, shapes),
    )
    for problem, keys, detail in problems:
        if keys:
            raise CheckpointError(
                f"{source} does not fit {name}: it {problem} {keys[0]}{detail}, {len(keys)} in all; "
                "give --backbone the model it was saved from"
            )
    model.load_state_dict(state, strict=False)
