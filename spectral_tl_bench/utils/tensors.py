"""The weights a run adds to its backbone, in one small safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from spectral_tl_bench.utils.errors import CheckpointError, RecordError
from spectral_tl_bench.utils.files import replacing
from spectral_tl_bench.utils.weight_metadata import METADATA_KEY, metadata_of, opened


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and what they belong to, at once or not at all.

    Args:
        path: The .safetensors file.
        state: Tensors by name.
        metadata: Anything JSON can hold: sensor, backbone, method, digest of the run.

    Raises:
        RecordError: If the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            save_file(state, temporary, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    except SafetensorError as error:
        raise RecordError(f"cannot write {path}: {error}") from error


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_weights` wrote.

    Returns:
        Tensors by name, and the metadata.

    Raises:
        CheckpointError: If the file is missing, damaged, not from this package, or holds numbers that are not finite.
    """
    with opened(path, "pt") as file:
        metadata = metadata_of(path, file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    require_finite(path, tensors)
    return tensors, metadata


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights of which some are no numbers: a model made of them gives the same class everywhere.

    Raises:
        CheckpointError: If a floating-point tensor holds NaN or infinity; the message names it.
    """
    if (name := not_finite(tensors)) is not None:
        raise CheckpointError(f"{path}: {name} holds numbers that are not finite; take another file")


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the first floating-point tensor that holds NaN or infinity; None where there is none."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None


def _shared_names(module: nn.Module) -> set[str]:
    """Names in the state that repeat a tensor under another name, such as a module shared by all taps."""
    seen: set[int] = set()
    repeated = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            repeated.add(name)
        seen.add(id(tensor))
    return repeated


def trained_state(module: nn.Module, pretrained: frozenset[int]) -> dict[str, Tensor]:
    """What a run added or changed: every tensor except pretrained parameters that stayed frozen.

    Args:
        module: A segmenter or backbone after :meth:`spectral_tl_bench.methods.Method.apply`.
        pretrained: Identities of the pretrained parameters.

    Returns:
        Copies on the CPU by name, safe to keep while training goes on.
    """
    frozen = {name for name, p in module.named_parameters() if id(p) in pretrained and not p.requires_grad}
    left_out = frozen | _shared_names(module)
    return {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in module.state_dict().items()
        if name not in left_out
    }


def restore(module: nn.Module, state: dict[str, Tensor], pretrained: frozenset[int], source: str) -> None:
    """Put trained weights back into a module built and adapted in the same way.

    Args:
        module: The module.
        state: What :func:`trained_state` returned.
        pretrained: Identities of the module's pretrained parameters; only these may be missing from ``state``.
        source: Where the weights come from, for the error.

    Raises:
        CheckpointError: If a name is missing or unknown, or a shape differs; the message names it.
    """
    expected = module.state_dict()
    optional = {name for name, p in module.named_parameters() if id(p) in pretrained} | _shared_names(module)
    missing = sorted(set(expected) - set(state) - optional)
    unknown = sorted(set(state) - set(expected))
    wrong = sorted(k for k in state if k in expected and state[k].shape != expected[k].shape)
    for problem, names in (("lacks", missing), ("has the unknown tensor", unknown), ("has another shape of", wrong)):
        if names:
            raise CheckpointError(
                f"{source} belongs to another model: it {problem} {names[0]} ({len(names)} in all); "
                "use the method, options, backbone and sensor it was trained with"
            )
    with torch.no_grad():
        module.load_state_dict(state, strict=False)
