"""SpectralX as a method of the bench: which parts go into the backbone and what trains in which stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from torch import nn

from spectral_tl_bench.config.spec import StageName
from spectral_tl_bench.methods import Method, ReconstructionTarget
from spectral_tl_bench.methods.spectralx.aomoa import AoMoALinear
from spectral_tl_bench.methods.spectralx.are_adapter import AreAdapter
from spectral_tl_bench.methods.spectralx.hyper_tokenizer import HyperTokenizer
from spectral_tl_bench.methods.spectralx.usage import expert_usage
from spectral_tl_bench.methods.spectralx.usage_plot import plot_experts
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.sensors.plotting import png
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import METHODS

if TYPE_CHECKING:
    from torch import Tensor

    from spectral_tl_bench.backbones import Backbone

_USUAL_IMAGE_SIZE = 224


@METHODS.register("spectralx")
@dataclasses.dataclass
class SpectralX(Method):
    """SpectralX (Zhang et al., arXiv 2508.01731), with each part to be switched off for ablation.

    The backbone's norms train throughout, its other weights never. The tokenizer's batch norms follow the data of both
    stages, also while its weights are frozen.

    Attributes:
        variant: "reference" does what was published. "default" repairs it: the tokenizer's core is trained, masked
            pixels are hidden from the tokenizer and predicted as they are, its path from the pixels learns from labels
            alone, the Are-adapter's attention gets gradients, the balance loss is used, and the backbone starts with
            its pretrained function, its patch embedding included.
        hyper_tokenizer: Replace the patch embedding; without it the backbone's own one trains.
        aomoa: Put mixtures of adapters into the MLPs of the tap blocks.
        are_adapter: Refine the tokens after the tap blocks in segmentation; needs the hyper tokenizer's maps.
        stage1: Reconstruct masked images before segmentation.
        train_core_in_segmentation: Train the tokenizer's core in segmentation too ("default" only). Without stage 1
            it trains there in any case, since it would stay random.
        experts: Experts of a mixture.
        top_k: Experts kept for each token and attribute.
        balance_weight: Weight of the balance loss ("default" only).
    """

    changes_start = "puts a new tokenizer in place of the patch embedding"

    extra_loss_name = "balance"
    learning_rate_factor = 4.0

    variant: Literal["default", "reference"] = "default"
    hyper_tokenizer: bool = True
    aomoa: bool = True
    are_adapter: bool = True
    stage1: bool = True
    train_core_in_segmentation: bool = False
    experts: Annotated[int, Field(ge=1)] = 4
    top_k: Annotated[int, Field(ge=1)] = 2
    balance_weight: Annotated[float, Field(ge=0)] = 1e-2

    def __post_init__(self) -> None:
        if self.are_adapter and not self.hyper_tokenizer:
            raise SpectralBenchError(
                "spectralx: the Are-adapter reads the hyper tokenizer's maps; without it set are_adapter=false too"
            )
        if self.top_k > self.experts:
            raise SpectralBenchError(f"spectralx: top_k={self.top_k} is more than experts={self.experts}; lower top_k")

    @property
    def stages(self) -> tuple[StageName, ...]:
        """Masked reconstruction, unless it is switched off, then segmentation."""
        return ("reconstruction", "segmentation") if self.stage1 else ("segmentation",)

    @property
    def blanks_masked_patches(self) -> bool:
        """As published, the tokenizer sees the whole image before tokens are dropped."""
        return self.variant == "default"

    @property
    def reconstruction_target(self) -> ReconstructionTarget:
        """The released code restores pixels as they are; the paper normalises them patch by patch."""
        return "pixels" if self.variant == "default" else "plain_pixels"

    @property
    def keeps_tokenizer(self) -> bool:
        """Unless the hyper tokenizer takes its place."""
        return not self.hyper_tokenizer

    def adapt(self, backbone: Backbone) -> None:
        """Put tokenizer and mixtures into the backbone.

        Raises:
            SpectralBenchError: If the backbone's width is no multiple of 16, or a tap block's MLP is not made of two
                linear layers.
        """
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.requires_grad_(True)
        if self.hyper_tokenizer:
            if backbone.width % 16:
                raise SpectralBenchError(
                    f"spectralx needs a backbone whose width is a multiple of 16, not {backbone.width}"
                )
            backbone.tokenizer = self._tokenizer(backbone)
        else:
            backbone.tokenizer.requires_grad_(True)
        if self.aomoa:
            for tap in dict.fromkeys(backbone.taps):
                self._mix(backbone.blocks[tap], tap)
        self.begin_stage(backbone, self.stages[0])

    def _tokenizer(self, backbone: Backbone) -> HyperTokenizer:
        repaired = self.variant == "default"
        tokenizer = HyperTokenizer(
            backbone.sensor,
            backbone.width,
            backbone.patch_size,
            reference_grid(backbone),
            silent=repaired,
            # The released configurations of Sentinel-2 archives name the wavelengths of OHS too.
            wavelengths=None if repaired else OHS.wavelengths,
        )
        kernels = backbone.tokenizer.kernels()
        if repaired and kernels is not None and not kernels[0].is_meta:
            # The blocks were pretrained on this embedding's tokens; a random one would have to find them again.
            tokenizer.start_from(*kernels)
        return tokenizer

    def _mix(self, block: nn.Module, index: int) -> None:
        mlp = block.get_submodule("mlp")
        for name in ("fc1", "fc2"):
            linear = getattr(mlp, name, None)
            if not isinstance(linear, nn.Linear) or linear.in_features % 8 or linear.out_features % 2:
                raise SpectralBenchError(
                    f"spectralx needs an MLP of two linear layers, fc1 and fc2, in block {index}, not a "
                    f"{type(mlp).__name__}; set aomoa=false or take another backbone"
                )
            repaired = self.variant == "default"
            mixture = AoMoALinear(
                linear,
                experts=self.experts,
                top_k=self.top_k,
                zero_up=repaired,
                balanced=repaired and self.balance_weight > 0,
            )
            setattr(mlp, name, mixture)

    def begin_stage(self, backbone: Backbone, stage: StageName) -> None:
        """Set what of the tokenizer trains, and attach the Are-adapter before segmentation."""
        if self.variant == "reference" and backbone.metres_a_pixel is not None:
            # As released: stage 1 counts positions on the ground, stage 2 counts patches.
            on_the_ground = stage == "reconstruction"
            backbone.metres_a_pixel = backbone.sensor.ground_sampling_distance if on_the_ground else 1.0
        # Reconstruction bends the path from the pixels along few spectral directions, and labels cannot undo it.
        for parameter in backbone.tokenizer.parameters():
            parameter.requires_grad_(stage == "segmentation" or self.variant == "reference")
        if isinstance(backbone.tokenizer, HyperTokenizer):
            trains = stage == "reconstruction" or self.train_core_in_segmentation or not self.stage1
            backbone.tokenizer.core.requires_grad_(self.variant == "default" and trains)
        attached = isinstance(backbone.after_tap[0], AreAdapter)
        if stage == "segmentation" and self.are_adapter and not attached:
            adapter = AreAdapter(
                backbone.width,
                backbone.patch_size,
                reference_grid(backbone),
                "soft" if self.variant == "default" else "hard",
            )
            adapter.to(next(backbone.parameters()).device)
            backbone.after_tap = nn.ModuleList(adapter for _ in backbone.taps)

    def extra_loss(self, backbone: Backbone) -> Tensor | None:
        """The weighted balance losses of all mixtures, summed, or None where none was computed."""
        mixtures = [module for module in backbone.modules() if isinstance(module, AoMoALinear)]
        losses = [loss for loss in (mixture.take_balance() for mixture in mixtures) if loss is not None]
        return self.balance_weight * sum(losses[1:], start=losses[0]) if losses else None

    def diagnostics(self, backbone: Backbone, images: Mapping[str, Tensor], heading: str) -> dict[str, bytes]:
        """Count and draw which experts the tokens of source and targets are sent to."""
        usage = expert_usage(backbone, images)
        if usage.empty:
            return {}
        table = usage.to_csv(index=False, lineterminator="\n").encode()
        return {"experts.csv": table, "experts.png": png(plot_experts(usage, heading))}


def reference_grid(backbone: Backbone) -> tuple[int, int]:
    """Rows and columns of patches that the backbone was pretrained with, at most those of a 224 px image.

    The spectral branch is as wide as its map has positions: that of DINOv2's table of 518 px images would have ten
    times the parameters of a ViT-S.
    """
    usual = _USUAL_IMAGE_SIZE // backbone.patch_size
    rows, columns = backbone.pretrained_grid or (usual, usual)
    return min(rows, usual), min(columns, usual)
