"""What segmentation minimises."""

from __future__ import annotations

from typing import Literal

from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.datasets.base import IGNORE_INDEX


def segmentation_loss(logits: Tensor, mask: Tensor, kind: Literal["cross_entropy", "cross_entropy_lovasz"]) -> Tensor:
    """Mean cross-entropy of the labelled pixels, and optionally the Lovász-softmax loss (Berman et al., CVPR 2018).

    The latter stands in for the mean IoU of the classes in the batch, so that rare classes count as much as in the
    score; cross-entropy alone learns them last.

    Args:
        logits: B x K x H x W.
        mask: B x H x W class ids, 255 = ignored.
        kind: Which of the two.

    Returns:
        A scalar; 0 where no pixel is labelled.
    """
    labelled = mask != IGNORE_INDEX
    # A batch without a single labelled pixel counts as 0, not as a division by 0.
    losses = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="sum")
    loss = losses / labelled.sum().clamp_min(1)
    if kind == "cross_entropy_lovasz" and bool(labelled.any()):
        loss = loss + LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits.float(), mask)
    return loss
