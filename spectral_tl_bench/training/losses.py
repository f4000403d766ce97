"""What segmentation minimises: functions of logits, B x K x H x W, and mask, B x H x W class ids with 255 = ignored.

Each returns a scalar, 0 where no pixel is labelled. They are registered in ``LOSSES``.
"""

from __future__ import annotations

from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.utils.registry import LOSSES


@LOSSES.register("cross_entropy")
def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled pixels."""
    # A batch without a single labelled pixel counts as 0, not as a division by 0.
    losses = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="sum")
    return losses / (mask != IGNORE_INDEX).sum().clamp_min(1)


@LOSSES.register("cross_entropy_lovasz")
def cross_entropy_lovasz(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy plus the Lovász-softmax loss (Berman et al., CVPR 2018).

    The latter stands in for the mean IoU of the classes in the batch, so that rare classes count as much as in the
    score; cross-entropy alone learns them last.
    """
    loss = cross_entropy(logits, mask)
    if bool((mask != IGNORE_INDEX).any()):
        loss = loss + LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits.float(), mask)
    return loss
