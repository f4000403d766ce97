"""The peak learning rate of every parameter of an adapted backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from spectral_tl_bench.backbones.base import TapModule

if TYPE_CHECKING:
    from spectral_tl_bench.backbones.base import Backbone
    from spectral_tl_bench.config.spec import StageName, TrainingSpec


def parameter_groups(backbone: Backbone, training: TrainingSpec, stage: StageName) -> list[dict[str, Any]]:
    """Group a backbone's parameters by peak learning rate, as :class:`torch.optim.Optimizer` takes groups.

    Everything learns at the stage's rate, except:

    - Modules after taps: times their ``relative_learning_rate``.
    - The tokenizer: times ``tokenizer_learning_rate_factor`` and its ``relative_learning_rates()``, at most the larger
      of the stage's rate and the tokenizer's. A sum of few inputs needs less of the reduction than one of many.
    - The patch embedding's kernels: at most ``patch_embedding_step`` times their root mean square as the stage begins.
      A rate that followed the kernels in training would depend on where the stage was interrupted.

    Args:
        backbone: The adapted backbone, as the stage begins.
        training: The run's training settings.
        stage: The stage that begins.
    """
    peak = training.stage(stage).learning_rate
    rates: dict[int, float] = {}
    for module in backbone.after_tap.modules():
        if isinstance(module, TapModule):
            rates |= {id(parameter): peak * module.relative_learning_rate for parameter in module.parameters()}
    factor, relative = training.tokenizer_learning_rate_factor, backbone.tokenizer.relative_learning_rates()
    tokenizer = {
        id(parameter): peak * min(max(1.0, factor), factor * relative.get(name, 1.0))
        for name, parameter in backbone.tokenizer.named_parameters()
    }
    kernels, step = backbone.tokenizer.kernels(), training.patch_embedding_step
    if step is not None and kernels is not None and id(kernels[0]) in tokenizer and not kernels[0].is_meta:
        size = float(kernels[0].detach().square().mean().sqrt())
        tokenizer[id(kernels[0])] = min(tokenizer[id(kernels[0])], step * size)
    rates |= tokenizer
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in backbone.parameters():
        groups.setdefault(rates.get(id(parameter), peak), []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]
