"""Lightning modules of the two stages: masked reconstruction without labels, then segmentation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.datasets.base import IGNORE_INDEX, Sample
from spectral_tl_bench.losses import segmentation_loss
from spectral_tl_bench.metrics import confusion_matrix, mean_iou
from spectral_tl_bench.spec import TrainingSpec
from spectral_tl_bench.windows import resize_sample, sliding_windows

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.methods import Method
    from spectral_tl_bench.reconstruction import ReconstructionDecoder
    from spectral_tl_bench.segmentation import Segmenter


def learning_rate_factor(step: int, steps: int, schedule: str, warmup_fraction: float) -> float:
    """Factor on the peak learning rate: linear warm-up, then constant or half a cosine down to 0.

    Args:
        step: Optimiser step, from 0.
        steps: Steps in all.
        schedule: "constant" or "cosine".
        warmup_fraction: Share of the steps that warm up.
    """
    warmup = round(warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class AdaptationTask(lightning.LightningModule):
    """What both stages share: the optimiser, its schedule, the method's extra loss, and who receives gradients.

    Attributes:
        gradient_names: Names (in ``self``) of the parameters that received a gradient other than 0 in the first steps.
    """

    _STEPS_WATCHED = 3
    """A zero-initialised layer passes no gradient back in the first step, so several are looked at."""

    def __init__(self, backbone: Backbone, method: Method, training: TrainingSpec) -> None:
        """Keep what the stage adapts; subclasses add their heads."""
        super().__init__()
        self.backbone = backbone
        self.method = method
        self.training_spec = training
        self.gradient_names: set[str] = set()

    def stage_settings(self) -> tuple[int, float, tuple[float, float]]:
        """Steps, peak learning rate and AdamW's betas of this stage."""
        raise NotImplementedError

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on what trains, with the run's schedule stepped every batch."""
        steps, peak, betas = self.stage_settings()
        spec = self.training_spec
        factor = spec.tokenizer_learning_rate_factor
        relative = self.backbone.tokenizer.relative_learning_rates()
        tokenizer = {
            # What sums up little is held back less, but never learns faster than what is no tokenizer.
            id(parameter): min(max(1.0, factor), factor * relative.get(name, 1.0))
            for name, parameter in self.backbone.tokenizer.named_parameters()
        }
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                groups.setdefault(tokenizer.get(id(parameter), 1.0), []).append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": factor * peak} for factor, parameters in groups.items()],
            betas=betas,
            weight_decay=spec.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, steps, spec.schedule, spec.warmup_fraction)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note which parameters receive a gradient."""
        if self.global_step < self._STEPS_WATCHED:
            self.gradient_names |= {
                name for name, p in self.named_parameters() if p.grad is not None and bool(p.grad.any())
            }

    def total_loss(self, loss: Tensor) -> Tensor:
        """Add the method's own loss and log both."""
        extra = self.method.extra_loss(self.backbone)
        if extra is not None:
            self.log("extra_loss", extra.detach())
            loss = loss + extra
        self.log("loss", loss.detach())
        return loss


class MaskedReconstruction(AdaptationTask):
    """Masked autoencoding of spectral images (He et al., 2022; SpectralX, stage 1).

    Patches are hidden at random, the visible ones pass the adapted backbone, and a small decoder restores the pixels of
    the hidden ones, each patch normalised by its own mean and deviation.
    """

    def __init__(
        self, backbone: Backbone, method: Method, training: TrainingSpec, decoder: ReconstructionDecoder
    ) -> None:
        """Keep the decoder beside the backbone."""
        super().__init__(backbone, method, training)
        self.decoder = decoder

    def stage_settings(self) -> tuple[int, float, tuple[float, float]]:
        """Steps, peak learning rate and AdamW's betas of stage 1."""
        spec = self.training_spec
        return spec.reconstruction_steps, spec.reconstruction_learning_rate, (0.9, 0.95)

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches.

        Args:
            images: B x C x H x W, normalised.
            hidden: B x T, True where a patch is hidden; every image hides equally many.

        Returns:
            B x T x (patch * patch * C) patches; only the hidden ones are meant.
        """
        if self.method.blanks_masked_patches:
            images = blank(images, hidden, self.backbone.patch_size)
        tokens = self.backbone.embed(images)
        visible = (~hidden).nonzero()[:, 1].view(len(images), -1)
        encoded = self.backbone.encode(tokens.keep(visible))[-1]
        restored: Tensor = self.decoder(encoded, visible, tokens.grid)
        return restored

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error over the hidden patches."""
        images = batch["image"]
        rows, columns = self.backbone.grid_of(images)
        hidden = random_mask(len(images), rows * columns, self.training_spec.mask_ratio, images.device)
        target = normalised_patches(images, self.backbone.patch_size)
        error = (self.reconstruct(images, hidden) - target).square().mean(dim=-1)
        return self.total_loss(error[hidden].mean())


def random_mask(batch: int, tokens: int, ratio: float, device: torch.device) -> Tensor:
    """Hide the same share of random patches in every image; B x T, True where hidden."""
    hidden = max(1, min(tokens - 1, round(ratio * tokens)))
    order = torch.rand(batch, tokens, device=device).argsort(dim=1).argsort(dim=1)
    return order < hidden


def blank(images: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Set the pixels of hidden patches to 0, the mean of normalised images.

    Args:
        images: B x C x H x W.
        hidden: B x T.
        patch: Side of a patch in pixels.
    """
    return images.masked_fill(hidden_pixels(images, hidden, patch), 0.0)


def hidden_pixels(images: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Where the hidden patches of B x C x H x W images lie; B x 1 x H x W, True where hidden."""
    grid = hidden.view(len(images), 1, images.shape[-2] // patch, images.shape[-1] // patch)
    return grid.repeat_interleave(patch, dim=-2).repeat_interleave(patch, dim=-1)


def normalised_patches(images: Tensor, patch: int) -> Tensor:
    """Cut images into patches and normalise each by its own mean and deviation; B x T x (patch * patch * C)."""
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2)
    mean = patches.mean(dim=-1, keepdim=True)
    deviation = (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / deviation


class Segmentation(AdaptationTask):
    """Segmentation; scores whole tiles at their own resolution.

    Attributes:
        confusions: From the last validation or test: loader index, tile name and K x K matrix (rows = truth).
        held_out_miou: mIoU (0-1) of each validation so far, on held-out source tiles, with its step.
    """

    def __init__(self, segmenter: Segmenter, method: Method, training: TrainingSpec, num_classes: int) -> None:
        """Keep the segmenter; its backbone is the one that the method adapted."""
        super().__init__(segmenter.backbone, method, training)
        self.segmenter = segmenter
        self.num_classes = num_classes
        self.confusions: list[tuple[int, str, np.ndarray]] = []
        self.held_out_miou: list[tuple[int, float]] = []

    def stage_settings(self) -> tuple[int, float, tuple[float, float]]:
        """Steps, peak learning rate and AdamW's betas of stage 2."""
        return self.training_spec.segmentation_steps, self.training_spec.learning_rate, (0.9, 0.999)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The run's loss over the labelled pixels."""
        logits = self.segmenter(batch["image"])
        return self.total_loss(segmentation_loss(logits, batch["mask"], self.training_spec.loss))

    def on_validation_epoch_start(self) -> None:
        """Forget the last confusions."""
        self.confusions = []

    def on_test_epoch_start(self) -> None:
        """Forget the last confusions."""
        self.confusions = []

    def validation_step(self, batch: list[Sample], batch_idx: int) -> None:
        """Score held-out source tiles."""
        self._score(batch, 0)

    def test_step(self, batch: list[Sample], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score tiles of one of the loaders."""
        self._score(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU over all held-out tiles."""
        total = np.sum([matrix for _, _, matrix in self.confusions], axis=0)
        score = float(mean_iou(total))
        self.held_out_miou.append((self.global_step, score))
        self.log("held_out_miou", score)

    def _score(self, batch: list[Sample], loader: int) -> None:
        if self.training_spec.scoring == "reference":
            size = self.training_spec.image_size
            batch = [{**s, "mask": resize_sample(s, size)["mask"]} for s in batch]
        for sample, prediction in zip(batch, self.predict_tiles(batch), strict=True):
            truth = sample["mask"].cpu().numpy()
            matrix = confusion_matrix(truth, prediction.cpu().numpy(), self.num_classes, IGNORE_INDEX)
            self.confusions.append((loader, sample["tile"], matrix))

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
        return torch.cat([self.segmenter(torch.stack(images[i : i + size])) for i in range(0, len(images), size)])

    def _predict_resized(self, samples: list[Sample]) -> list[Tensor]:
        size = (self.training_spec.image_size,) * 2
        images = [
            F.interpolate(s["image"][None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
            for s in samples
        ]
        predictions = []
        for sample, logits in zip(samples, self._forward(images), strict=True):
            shape = sample["mask"].shape if "mask" in sample else sample["image"].shape[-2:]
            native = F.interpolate(logits[None].float(), size=shape, mode="bilinear", align_corners=False)[0]
            predictions.append(native.argmax(dim=0))
        return predictions

    def _predict_windows(self, samples: list[Sample]) -> list[Tensor]:
        size = self.training_spec.image_size
        windows: list[Tensor] = []
        places: list[tuple[int, int, int]] = []
        for number, sample in enumerate(samples):
            image = sample["image"]
            pad = (0, max(0, size - image.shape[-1]), 0, max(0, size - image.shape[-2]))
            padded = F.pad(image[None], pad, mode="replicate")[0] if any(pad) else image
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
