"""What a method must keep to for its record to be true: frozen weights stay, chance is the seed's, something learns."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.base import NUM_TAPS
from spectral_tl_bench.training.fit import seed_all
from spectral_tl_bench.utils.errors import RunFailedError, SpectralBenchError
from spectral_tl_bench.utils.registry import DECODERS, LOSSES, PluginError

if TYPE_CHECKING:
    from torch import nn

    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import TrainingSpec
    from spectral_tl_bench.methods import Method
    from spectral_tl_bench.runs.plan import Plan
    from spectral_tl_bench.training.base import AdaptationTask


class FrozenWeights:
    """Digests of a backbone's parameters as training begins.

    What :meth:`~spectral_tl_bench.methods.Method.adapt` does to them is done again whenever a run's model is rebuilt
    (SoMA takes a part out of the weights that it then trains); what happens later is not.
    """

    def __init__(self, backbone: Backbone) -> None:
        """Remember the parameters of an adapted backbone."""
        self._before = {id(p): (name, _digest(p)) for name, p in backbone.named_parameters()}
        # What is replaced must outlive it, or a new parameter may get its identity and pass for it.
        self._alive = tuple(backbone.parameters())

    def require_unchanged(self, backbone: Backbone) -> None:
        """Look at what holds pretrained weights and is frozen, and stop looking at what trains.

        Raises:
            SpectralBenchError: If one is not what it was.
        """
        for parameter in backbone.parameters():
            if parameter.requires_grad or id(parameter) not in backbone.pretrained_parameters:
                self._before.pop(id(parameter), None)
            elif id(parameter) in self._before:
                name, digest = self._before[id(parameter)]
                if _digest(parameter) != digest:
                    raise SpectralBenchError(
                        f"the method changes the pretrained weights {name} in training, though they are frozen; let "
                        "them train (requires_grad_) or put what changes into a module of your own"
                    )


def require_repeatable(plan: Plan, method: Method, backbone: Backbone) -> None:
    """Adapt another backbone with the same seed and compare.

    Methods of this package are known to; one of a user's file may draw from a generator that has no seed.

    Args:
        plan: The run.
        method: Its method.
        backbone: As the method has adapted it.

    Raises:
        SpectralBenchError: If anything that the method drew differs.
    """
    if plan.spec.method_source is None:
        return
    seed_all(plan.spec.seed)
    other: Backbone = build_backbone(plan.spec.backbone, plan.dataset.sensor, plan.weights)
    dataclasses.replace(method).apply(other)
    name = plan.spec.method_name
    ours, theirs = backbone.state_dict(), other.state_dict()
    if ours.keys() != theirs.keys():
        raise SpectralBenchError(f"{name}.adapt adds other modules each time; let it depend on nothing else")
    for part, tensor in ours.items():
        if not torch.equal(tensor, theirs[part]):
            raise SpectralBenchError(
                f"{name}.adapt draws {part} from a generator without a seed, so no run could be repeated; "
                "draw with torch.rand and the like, which are seeded"
            )


def require_head(backbone: Backbone, num_classes: int, training: TrainingSpec) -> None:
    """Refuse windows, decoders and losses that cannot train, before anything does.

    Args:
        backbone: Of the run.
        num_classes: K.
        training: Names decoder and loss.

    Raises:
        SpectralBenchError: If one cannot be used; the message names it.
    """
    size = training.image_size
    with torch.device("meta"):
        image = torch.empty(1, len(backbone.sensor.bands), size, size)
        features = torch.empty(1, backbone.width, *backbone.grid_of(backbone.enlarge(image, training.upsample)))
        with _blamed("decoder", training.decoder, "cannot be made"):
            decoder = DECODERS.load(training.decoder)(backbone, num_classes, training).train()
    with _blamed("loss", training.loss, "fails on logits and mask"):
        loss = LOSSES.load(training.loss)(torch.zeros(2, num_classes, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))
    if not (isinstance(loss, torch.Tensor) and loss.dim() == 0):
        raise PluginError(f"loss {training.loss} returns a {type(loss).__name__}, not a scalar tensor")
    if training.batch_size > training.accumulation:
        return
    try:
        decoder([features] * NUM_TAPS)
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            raise SpectralBenchError(
                f"batch_size {training.batch_size} with accumulation {training.accumulation} is one window at a time, "
                f"and decoder {training.decoder} normalises over several; raise --train batch_size, or take "
                "--train decoder=mlp"
            ) from error
    except (RuntimeError, TypeError, NotImplementedError):
        return  # of a decoder that needs numbers, which the meta device lacks


@contextlib.contextmanager
def _blamed(kind: str, name: str, how: str) -> Iterator[None]:
    """Name the plugin in whatever it raises."""
    try:
        yield
    except SpectralBenchError:
        raise
    except Exception as error:
        raise PluginError(f"{kind} {name} {how}: {type(error).__name__}: {error}") from error


def require_training(method: Method, task: AdaptationTask) -> None:
    """Look whether anything of the backbone learned in a stage.

    Args:
        method: The method.
        task: The stage, trained.

    Raises:
        RunFailedError: If nothing did.
    """
    trainable = {name for name, p in task.backbone.named_parameters() if p.requires_grad}
    reached = {name.partition("backbone.")[2] for name in task.gradient_names if "backbone." in name}
    if method.trains_backbone and not trainable & reached:
        why = "none receives a gradient" if trainable else "all are frozen"
        raise RunFailedError(
            f"{type(method).__name__} trains no parameter of the backbone in {task.stage}: {why}; let its parts train, "
            "or say trains_backbone = False in its class where frozen features are meant"
        )


def _digest(parameter: nn.Parameter) -> bytes:
    return hashlib.blake2b(parameter.detach().cpu().contiguous().numpy().data, digest_size=16).digest()
