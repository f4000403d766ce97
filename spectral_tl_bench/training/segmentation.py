"""Stage 2: segmentation, and the scoring of whole tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.datamodules.windows import resize_image, resize_sample, sliding_windows
from spectral_tl_bench.datasets.base import Sample
from spectral_tl_bench.records.confusion import PARTS, Part, Scored, TileKey
from spectral_tl_bench.records.metrics import Matrix, confusion_matrix, mean_iou
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.training.base import REMEDY, AdaptationTask
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.errors import RunFailedError
from spectral_tl_bench.utils.registry import LOSSES

if TYPE_CHECKING:
    from spectral_tl_bench.methods import Method
    from spectral_tl_bench.training.decoders import Segmenter


Loss = Callable[[Tensor, Tensor], Tensor]


class Segmentation(AdaptationTask):
    """Segmentation; scores whole tiles at their own resolution.

    Attributes:
        confusions: From the last validation or test.
        on_scored: Called with those of a batch as soon as they are known, those of other processes among them.
        target_sensor: Bands of target tiles where these are shown as they are; None where they are the source's.
        held_out_miou: mIoU (0-1) of each validation so far, on held-out source tiles, with its step.
    """

    stage = "segmentation"

    def __init__(self, segmenter: Segmenter, method: Method, training: TrainingSpec, num_classes: int) -> None:
        """Keep the segmenter; its backbone is the one that the method adapted."""
        super().__init__(segmenter.backbone, method, training)
        self.segmenter = segmenter
        self.num_classes = num_classes
        self.target_sensor: Sensor | None = None
        self.loss: Loss = LOSSES.load(training.loss)
        self.confusions: list[Scored] = []
        self._pieces: list[Matrix] = []
        self.held_out_miou: list[tuple[int, float]] = []
        self.on_scored: Callable[[list[Scored]], None] = lambda scored: None

    @property
    def validated(self) -> frozenset[int]:
        """Steps after which held-out tiles were scored."""
        return frozenset(step for step, _ in self.held_out_miou)

    def head_groups(self) -> list[dict[str, Any]]:
        """The decoder, where it has a learning rate of its own."""
        rate = self.training_spec.decoder_learning_rate
        return [] if rate is None else [{"params": list(self.segmenter.decoder.parameters()), "lr": rate}]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The run's loss over the labelled pixels."""
        # A mean over labelled pixels, or what stands in for an IoU, is no mean of what processes have of it.
        logits = distributed.whole_batch(self.segmenter(batch["image"]))
        return self.total_loss(self.loss(logits, distributed.whole_batch(batch["mask"])), of_whole_batch=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the last confusions."""
        self.confusions, self._pieces = [], []

    def on_test_epoch_start(self) -> None:
        """Forget the last confusions."""
        self.confusions, self._pieces = [], []

    def validation_step(self, batch: list[Sample], batch_idx: int) -> None:
        """Score held-out source tiles."""
        self._score(batch, "held_out_source")

    def test_step(self, batch: list[Sample], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score tiles of one part."""
        part = PARTS[dataloader_idx]
        with self.backbone.seeing(self.target_sensor if part == "target" else None):
            self._score(batch, part)

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU over all held-out tiles."""
        total = np.sum([matrix for _, matrix in self.confusions], axis=0)
        score = float(mean_iou(total))
        self.held_out_miou.append((self.step, score))
        self.log("held_out_miou", score)

    def _score(self, batch: list[Sample], part: Part) -> None:
        if self.training_spec.scoring == "reference":
            size = self.training_spec.image_size
            batch = [{**s, "mask": resize_sample(s, size)["mask"]} for s in batch]
        own: list[tuple[TileKey, Matrix, int]] = []
        for sample, prediction in zip(batch, self.predict_tiles(batch) if batch else [], strict=True):
            truth = sample["mask"].cpu().numpy()
            matrix = confusion_matrix(truth, prediction.cpu().numpy(), self.num_classes, IGNORE_INDEX)
            own.append((TileKey(part, sample["tile"]), matrix, sample.get("pieces", 1)))
        scored: list[Scored] = []
        # Pieces of a large tile follow one another, be it in different processes.
        for key, matrix, pieces in itertools.chain.from_iterable(distributed.gather(own)):
            self._pieces.append(matrix)
            if len(self._pieces) == pieces:
                scored.append((key, np.sum(self._pieces, axis=0)))
                self._pieces = []
        self.confusions += scored
        self.on_scored(scored)

    @torch.no_grad()
    def predict_tiles(self, batch: Iterable[Sample]) -> list[Tensor]:
        """Predict whole tiles of any size.

        Args:
            batch: Samples with normalised C x H x W images.

        Returns:
            One H x W map of class ids a tile, in the size of its mask where it has one, else of its image.
        """
        samples = list(batch)
        if self.training_spec.resolution == "resize":
            return self._predict_resized(samples)
        return self._predict_windows(samples)

    def _forward(self, images: list[Tensor]) -> Tensor:
        size = self.training_spec.batch_size
        logits = torch.cat([self.segmenter(torch.stack(images[i : i + size])) for i in range(0, len(images), size)])
        if not bool(logits.isfinite().all()):
            # The largest of NaNs is still a class: a map of it would look like any other.
            raise RunFailedError(f"the model's logits are not finite after step {self.step}; {REMEDY}")
        return logits

    @torch.no_grad()
    def window_logits(self, images: Tensor) -> Tensor:
        """Logits of windows as they enter the score.

        Args:
            images: N x C x h x w normalised. Of the model's size with resolution "native", else of any.

        Returns:
            N x K x h x w.
        """
        if self.training_spec.resolution == "native":
            return self._forward(list(images)).float()
        return torch.stack(self._resized_logits(list(images), [images.shape[-2:]] * len(images)))

    def _resized_logits(self, images: list[Tensor], shapes: Iterable[Sequence[int]]) -> list[Tensor]:
        """K x h x w logits of images of any size, each in its shape of ``shapes``, through the model's own size."""
        resized = [resize_image(image, self.training_spec.image_size) for image in images]
        return [
            F.interpolate(logits[None].float(), size=tuple(shape), mode="bilinear", align_corners=False)[0]
            for logits, shape in zip(self._forward(resized), shapes, strict=True)
        ]

    def _predict_resized(self, samples: list[Sample]) -> list[Tensor]:
        shapes = [s["mask"].shape if "mask" in s else s["image"].shape[-2:] for s in samples]
        return [logits.argmax(dim=0) for logits in self._resized_logits([s["image"] for s in samples], shapes)]

    def _predict_windows(self, samples: list[Sample]) -> list[Tensor]:
        size = self.training_spec.image_size
        windows: list[Tensor] = []
        places: list[tuple[int, int, int]] = []
        for number, sample in enumerate(samples):
            image = sample["image"]
            pad = (0, max(0, size - image.shape[-1]), 0, max(0, size - image.shape[-2]))
            # With the mean, as windows of small tiles train: no land looks like an edge repeated over and over.
            padded = F.pad(image, pad) if any(pad) else image
            for top, left, window in sliding_windows(padded, size):
                windows.append(window)
                places.append((number, top, left))
        logits = self._forward(windows).float()
        # Where windows overlap, their logits add up before the decision.
        sums = [
            torch.zeros(
                self.num_classes,
                max(size, s["image"].shape[-2]),
                max(size, s["image"].shape[-1]),
                device=logits.device,
            )
            for s in samples
        ]
        for (number, top, left), piece in zip(places, logits, strict=True):
            sums[number][:, top : top + size, left : left + size] += piece
        return [
            total[:, : s["image"].shape[-2], : s["image"].shape[-1]].argmax(dim=0)
            for total, s in zip(sums, samples, strict=True)
        ]
