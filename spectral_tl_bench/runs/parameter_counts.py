"""Parameters of a method: how many there are, how many train, and how many receive a gradient.

A run counts them as it goes (:func:`parameter_counts`). :func:`account` counts them for any method without data: on
the meta device, where a ViT-L costs nothing, and, where gradients are asked for, in the first steps of both stages on
random images.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from spectral_tl_bench.backbones import Backbone, build_backbone
from spectral_tl_bench.config.protocols import read_protocol_file
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.datasets import dataset_class
from spectral_tl_bench.methods import Method
from spectral_tl_bench.records import ParameterCounts
from spectral_tl_bench.sensors import SENSORS, Sensor, UnreadSensor, select_bands
from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.fit import fit, seed_all
from spectral_tl_bench.training.reconstruction import MaskedReconstruction
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils.errors import ProtocolError, UnknownNameError
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.validation import names_yaml

BACKBONE = "backbone."
"""Prefix of the adapted backbone's parameters in a segmenter; all others are the decoder's."""

DATASET_OF_SENSOR = {"ohs": "whuohs", "sentinel2": "dfc2020", "mts12": "mts12"}
"""The archive of each sensor, which says how many classes the decoder tells apart."""

SMALL = 30_000_000
"""Parameters of a backbone up to which gradients of all methods are measured in seconds."""

# As many as a run watches. Four by four patches are the fewest on which no batch norm of the decoder sees one value.
_STEPS, _BATCH, _PATCHES_A_SIDE = 3, 2, 4


class Count(NamedTuple):
    """Numbers of parameters of the adapted backbone, and of backbone, neck, UPerNet and classifier together."""

    without_decoder: int
    with_decoder: int


@dataclass(frozen=True)
class Account:
    """Parameters of a method on a backbone.

    Attributes:
        method: Its name.
        allocated: All of them.
        trainable: Those that train in any stage.
        gradient_receiving: Those that receive a gradient other than 0 in any stage; None where that was not measured.
    """

    method: str
    allocated: Count
    trainable: Count
    gradient_receiving: Count | None = None


def count(sizes: Mapping[str, int], names: Iterable[str]) -> Count:
    """Add up parameters of a segmenter.

    Args:
        sizes: Numbers of elements by name in the segmenter.
        names: The parameters meant.
    """
    wanted = set(names)
    of_backbone = sum(n for name, n in sizes.items() if name in wanted and name.startswith(BACKBONE))
    return Count(of_backbone, sum(n for name, n in sizes.items() if name in wanted))


def parameter_counts(
    segmenter: Segmenter, trainable: Iterable[str], receiving: Iterable[str]
) -> tuple[ParameterCounts, ParameterCounts]:
    """Counts as a record keeps them, without and with the decoder."""
    sizes = {name: p.numel() for name, p in segmenter.named_parameters()}
    kinds = {
        "allocated": count(sizes, sizes),
        "trainable": count(sizes, trainable),
        "gradient_receiving": count(sizes, receiving),
    }
    return (
        ParameterCounts(**{kind: numbers.without_decoder for kind, numbers in kinds.items()}),
        ParameterCounts(**{kind: numbers.with_decoder for kind, numbers in kinds.items()}),
    )


def segmenter_names(task: AdaptationTask, names: Iterable[str]) -> set[str]:
    """Turn names in a stage's task into names in the segmenter; a reconstruction decoder, thrown away, leaves."""
    if isinstance(task, MaskedReconstruction):
        return {name for name in names if name.startswith(BACKBONE)}
    return {name.removeprefix("segmenter.") for name in names}


def sensor_and_classes(name: str) -> tuple[Sensor, int]:
    """Find a sensor, and how many classes its archive has.

    Args:
        name: A shipped sensor, or the path of a protocol file that describes one.

    Raises:
        UnknownNameError: If there is no such sensor.
        ProtocolError: If the file cannot be read or describes no sensor of its own.
    """
    if names_yaml(name):
        file = read_protocol_file(Path(name))
        if file.sensor is None or file.classes is None:
            raise ProtocolError(f"{name} describes no sensor of its own; name one of: {', '.join(SENSORS)}")
        if isinstance(file.sensor, UnreadSensor):
            raise ProtocolError(f"{name} leaves the bands to the files of its tiles; list them under 'sensor' to count")
        sensor = file.sensor if file.bands is None else file.sensor.subset(select_bands(file.sensor, file.bands))
        return sensor, len(file.classes)
    if name not in SENSORS:
        hint = f"the sensors are: {', '.join(SENSORS)}; or give the protocol file of your own tiles"
        raise UnknownNameError("sensor", name, SENSORS, hint)
    return SENSORS[name], len(dataset_class(DATASET_OF_SENSOR[name]).all_classes)


def backbone_size(backbone: str, sensor: Sensor) -> int:
    """Number of parameters of a backbone by name, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_backbone(backbone, sensor).parameters())


def as_json(accounts: Iterable[Account]) -> str:
    """The counts of methods as a JSON list; ``gradient_receiving`` is null where it was not measured."""

    def plain(count: Count | None) -> dict[str, int] | None:
        return None if count is None else count._asdict()

    rows = [
        {
            "method": account.method,
            "allocated": plain(account.allocated),
            "trainable": plain(account.trainable),
            "gradient_receiving": plain(account.gradient_receiving),
        }
        for account in accounts
    ]
    return json.dumps(rows, indent=2)


def account(
    name: str,
    method: Method,
    backbone: str,
    sensor: Sensor,
    training: TrainingSpec,
    num_classes: int,
    pretrained: Backbone | None = None,
) -> Account:
    """Count the parameters of a method.

    Args:
        name: What to call the method.
        method: The method.
        backbone: Name of the backbone.
        sensor: Sensor of the images.
        training: Widths of the decoder.
        num_classes: K.
        pretrained: The backbone with memory behind it, for measuring who receives a gradient; it is copied, not
            changed. None leaves that out, and nothing is computed.
    """
    trainable: set[str] = set()
    with torch.device("meta"):
        adapted = build_backbone(backbone, sensor)
        method.apply(adapted)
        for stage in method.stages:
            method.begin_stage(adapted, stage)
            trainable |= {f"{BACKBONE}{n}" for n, p in adapted.named_parameters() if p.requires_grad}
        segmenter = Segmenter.of(adapted, num_classes, training)
    sizes = {n: p.numel() for n, p in segmenter.named_parameters()}
    trainable |= {n for n in sizes if not n.startswith(BACKBONE)}
    receiving = None
    if pretrained is not None:
        receiving = count(sizes, gradient_receiving(method, copy.deepcopy(pretrained), training))
    return Account(name, count(sizes, sizes), count(sizes, trainable), receiving)


def gradient_receiving(method: Method, backbone: Backbone, training: TrainingSpec) -> set[str]:
    """Find the parameters that receive a gradient other than 0, as a run does: in the first steps of each stage.

    Images are random and small and the decoders narrow, which changes neither names nor which of them are reached; the
    backbone and what the method adds have their own size.

    Args:
        method: The method.
        backbone: A backbone as built; changed in place.
        training: How the neck upsamples, and learning rates.

    Returns:
        Names in the segmenter.
    """
    narrow = {"neck_channels": 16, "decoder_channels": 16, "reconstruction_decoder_width": 32}
    few = {"segmentation_steps": _STEPS, "reconstruction_steps": _STEPS, "validations": 1}
    training = training.model_copy(
        update={**narrow, **few, "reconstruction_decoder_depth": 1, "reconstruction_decoder_heads": 2}
    )
    classes = 2
    seed_all(0)
    batches = _RandomBatches(backbone, classes)
    method.apply(backbone)
    names: set[str] = set()
    for stage in method.stages:
        seed_all(0)
        method.begin_stage(backbone, stage)
        task: AdaptationTask
        if stage == "reconstruction":
            decoder = ReconstructionDecoder.of(backbone, training)
            task = MaskedReconstruction(backbone, method, training, decoder)
        else:
            task = Segmentation(Segmenter.of(backbone, classes, training), method, training, classes)
        fit(task, batches, training, options=RuntimeOptions(device="cpu"), callbacks=[], validations=0)
        names |= segmenter_names(task, task.gradient_names)
    return names


class _RandomBatches(lightning.LightningDataModule):
    """A few batches of random images and labels."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        side = _PATCHES_A_SIDE * backbone.patch_size
        bands = len(backbone.sensor.bands)
        self.batches: list[dict[str, Tensor]] = [
            {"image": torch.randn(_BATCH, bands, side, side), "mask": torch.randint(classes, (_BATCH, side, side))}
            for _ in range(_STEPS)
        ]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return the batches."""
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset
