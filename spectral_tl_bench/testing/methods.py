"""Checks of methods."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from spectral_tl_bench.backbones import Backbone, build_backbone
from spectral_tl_bench.backbones.base import NUM_TAPS
from spectral_tl_bench.methods import AnyMethod, Method, PixelModel
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2, Sensor
from spectral_tl_bench.testing.contracts import ContractError, require
from spectral_tl_bench.testing.small_backbones import WIDTH, disturb, small_backbone
from spectral_tl_bench.utils.tensors import restore, trained_state


def check_method(cls: type[AnyMethod]) -> None:
    """Check a method: its options, what trains, what stays frozen, and that a run can be saved and repeated.

    Args:
        cls: A dataclass, a subclass of ``Method`` or ``PixelModel``. Its options keep their defaults.

    Raises:
        ContractError: If it breaks a contract of docs/add-a-baseline.md.
    """
    _check_is_a_method(cls)
    checks: Sequence[Callable[[Any], None]] = METHOD_CHECKS if issubclass(cls, Method) else PIXEL_MODEL_CHECKS
    for check in checks:
        check(cls)


def adapted(
    cls: type[Method], sensor: Sensor = SENTINEL2, seed: int = 0, backbone: Backbone | None = None
) -> tuple[Backbone, Method]:
    """Adapt a backbone with a method, as far as the first step of its last stage.

    Args:
        cls: The method; its options keep their defaults.
        sensor: Sensor of the images.
        seed: Seed of what the method draws.
        backbone: The backbone; None for ``vit_micro`` with its own weights.
    """
    torch.manual_seed(seed)
    if backbone is None:
        backbone = build_backbone("vit_micro", sensor, "embedded")
    method = cls()
    method.apply(backbone)
    for stage in method.stages:
        method.begin_stage(backbone, stage)
    return backbone, method


def optimiser_step(backbone: Backbone, method: Method, images: Tensor) -> None:
    """Take one step of gradient descent on a loss over the features, as training does."""
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    loss = torch.stack([feature.square().mean() for feature in backbone(images)]).sum()
    extra = method.extra_loss(backbone)
    total: Any = loss if extra is None else loss + extra
    total.backward()
    optimizer.step()


def _check_is_a_method(cls: type[AnyMethod]) -> None:
    require(
        isinstance(cls, type) and issubclass(cls, Method | PixelModel),
        f"{cls!r} is no subclass of Method or PixelModel",
    )
    require("__dataclass_fields__" in vars(cls), f"{cls.__name__} lacks the @dataclass decorator")


def check_summary(cls: type[AnyMethod]) -> None:
    """The docstring says where the method comes from or what it does."""
    words = (inspect.getdoc(cls) if cls.__doc__ else "") or ""
    generated = words.startswith(f"{cls.__name__}(")
    require(len(words.split()) > 5 and not generated, f"the docstring of {cls.__name__} does not say what it does")


def check_options(cls: type[AnyMethod]) -> None:
    """Options are plain values, all have defaults, and the method can be built from them again."""
    try:
        method = cls()
    except TypeError as error:
        raise ContractError(f"{cls.__name__} has an option without a default: {error}") from error
    options = method.options()
    try:
        plain = json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ContractError(f"an option of {cls.__name__} cannot be recorded as JSON: {error}") from error
    again = TypeAdapter(cls).validate_python(plain)
    require(again == method, f"{cls.__name__} built from its recorded options {plain} is another method")


def check_frozen_weights_stay(cls: type[Method]) -> None:
    """A training step changes what trains and nothing that is frozen."""
    backbone, method = adapted(cls)
    frozen = {n: p.clone() for n, p in backbone.named_parameters() if not p.requires_grad}
    trained = {n: p.clone() for n, p in backbone.named_parameters() if p.requires_grad}
    if cls.trains_backbone:
        require(trained, f"{cls.__name__} lets nothing train; set trains_backbone = False where that is meant")
        optimiser_step(backbone, method, torch.randn(2, 13, 32, 32))
        now = dict(backbone.named_parameters())
        changed = [n for n, p in frozen.items() if not torch.equal(now[n], p)]
        require(not changed, f"{cls.__name__} changes frozen weights in training: {', '.join(changed[:3])}")
        moved = any(not torch.equal(now[n], p) for n, p in trained.items())
        require(moved, f"nothing that {cls.__name__} lets train changes in a training step")


def check_feature_maps(cls: type[Method]) -> None:
    """Feature maps have the grid of patches of an image of any size and sensor."""
    for sensor in (OHS, SENTINEL2, MTS12):
        backbone, _ = adapted(cls, sensor)
        features = backbone.eval()(torch.randn(1, len(sensor.bands), 40, 64))
        shapes = [tuple(f.shape) for f in features]
        wanted = [(1, 192, 5, 8)] * NUM_TAPS
        require(shapes == wanted, f"{cls.__name__} on {sensor.name} gives feature maps {shapes} instead of {wanted}")


def check_weights_restore(cls: type[Method]) -> None:
    """What a run saves restores the trained outputs in a backbone that is adapted again."""
    images = torch.randn(2, 13, 64, 64)
    backbone, method = adapted(cls)
    if cls.trains_backbone:
        optimiser_step(backbone, method, images)
    saved = trained_state(backbone, backbone.pretrained_parameters)
    fresh, _ = adapted(cls, seed=1)
    restore(fresh, saved, fresh.pretrained_parameters, "the check")
    same = all(torch.equal(a, b) for a, b in zip(backbone.eval()(images), fresh.eval()(images), strict=True))
    require(same, f"weights that {cls.__name__} saved do not restore its outputs: adapt must not depend on chance")


def check_saves_no_frozen_weights(cls: type[Method]) -> None:
    """What a run saves leaves the frozen backbone out."""
    backbone, _ = adapted(cls)
    pretrained = backbone.pretrained_parameters
    frozen = {n for n, p in backbone.named_parameters() if id(p) in pretrained and not p.requires_grad}
    both = sorted(frozen & set(trained_state(backbone, pretrained)))
    require(not both, f"{cls.__name__} saves frozen weights: {', '.join(both[:3])}")


def check_is_repeatable(cls: type[Method]) -> None:
    """Adapting with the same seed gives the same modules and values."""
    first, again = (adapted(cls)[0].state_dict() for _ in range(2))
    require(first.keys() == again.keys(), f"{cls.__name__}.adapt adds other modules each time")
    for name, tensor in first.items():
        require(torch.equal(tensor, again[name]), f"{cls.__name__}.adapt draws {name} from a generator without a seed")


def check_any_positions(cls: type[Method]) -> None:
    """Backbones without prefix tokens, with several, and with rotary positions all work."""
    for backbone in (small_backbone(0), small_backbone(5), small_backbone(rotary=True)):
        backbone, _ = adapted(cls, backbone=backbone)
        disturb(backbone)
        features = backbone.eval()(torch.randn(1, 13, 24, 32))
        kind = f"a backbone of type {type(backbone).__name__}"
        shapes, wanted = [tuple(f.shape) for f in features], [(1, WIDTH, 3, 4)] * NUM_TAPS
        require(shapes == wanted, f"{cls.__name__} on {kind} gives feature maps {shapes} instead of {wanted}")
        require(all(f.isfinite().all() for f in features), f"{cls.__name__} on {kind} gives values that are no numbers")


def check_dropped_patches(cls: type[Method]) -> None:
    """A patch has the same features wherever it stands among the tokens, as masked reconstruction needs."""
    torch.manual_seed(0)
    backbone = small_backbone(prefix=1)
    cls().apply(backbone)
    disturb(backbone)
    tokens = backbone.eval().embed(torch.randn(2, 13, 24, 32))
    order = torch.stack([torch.randperm(12), torch.randperm(12)])
    shuffled = backbone.encode(tokens.keep(order))
    for some, whole in zip(shuffled, backbone.encode(tokens), strict=True):
        expected = whole.gather(1, order.unsqueeze(-1).expand(-1, -1, WIDTH))
        same = torch.allclose(some, expected, rtol=1e-4, atol=1e-4)
        require(same, f"{cls.__name__} gives a patch other features when the patches stand in another order")
    shapes = [tuple(f.shape) for f in backbone.encode(tokens.keep(order[:, :5]))]
    require(shapes == [(2, 5, WIDTH)] * NUM_TAPS, f"{cls.__name__} does not work on some of an image's patches")


def check_copies(cls: type[Method]) -> None:
    """A deep copy of an adapted backbone works like the original."""
    backbone, _ = adapted(cls)
    images = torch.randn(1, 13, 32, 32)
    expected = backbone.eval()(images)
    twin = copy.deepcopy(backbone)
    backbone(torch.randn(1, 13, 40, 24))
    same = all(torch.equal(a, b) for a, b in zip(twin(images), expected, strict=True))
    require(same, f"a copy of a backbone that {cls.__name__} adapted gives other features")


def check_starts_as_pretrained(cls: type[Method]) -> None:
    """Training starts from the pretrained function, unless the class gives a reason in ``changes_start``."""
    images = torch.randn(2, 13, 32, 32)
    torch.manual_seed(0)
    plain = build_backbone("vit_micro", SENTINEL2, "embedded").eval()
    backbone, _ = adapted(cls)
    # A decomposition of weights is exact up to rounding only.
    pairs = zip(plain(images), backbone.eval()(images), strict=True)
    same = all(torch.allclose(a, b, rtol=0, atol=cls.start_tolerance) for a, b in pairs)
    require(
        same or cls.changes_start,
        f"{cls.__name__} changes the backbone's features before it trains; start new parts at 0, or give the reason in "
        "changes_start",
    )


METHOD_CHECKS: tuple[Callable[[type[Method]], None], ...] = (
    check_summary,
    check_options,
    check_frozen_weights_stay,
    check_feature_maps,
    check_weights_restore,
    check_saves_no_frozen_weights,
    check_is_repeatable,
    check_any_positions,
    check_dropped_patches,
    check_copies,
    check_starts_as_pretrained,
)


def check_classifier(cls: type[PixelModel]) -> None:
    """The classifier learns from spectra, answers with class ids, and the same seed gives the same answers."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    spectra = (labels[:, None] / 4 + generator.normal(0, 0.02, (len(labels), 13))).astype(np.float32)
    answers = []
    for _ in range(2):
        classifier = cls().classifier(0)
        classifier.fit(spectra, labels)
        answers.append(np.asarray(classifier.predict(spectra)))
    first, again = answers
    require(first.shape == labels.shape, f"{cls.__name__} predicts an array {first.shape} for {len(labels)} spectra")
    require(set(first.tolist()) <= {0, 1, 2}, f"{cls.__name__} predicts class ids that no pixel had")
    require((first == again).all(), f"{cls.__name__} predicts otherwise when it is trained again with the same seed")


PIXEL_MODEL_CHECKS: tuple[Callable[[type[PixelModel]], None], ...] = (check_summary, check_options, check_classifier)
