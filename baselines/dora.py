"""DoRA through peft."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import linear_layers


@METHODS.register("dora")
@dataclass
class DoRA(Method):
    """LoRA with the magnitude of each output channel trained apart from its direction (Liu et al., 2024).

    W becomes m (W + (alpha / rank) B A) / |W + (alpha / rank) B A| (eq. 5), the norm taken for each output channel and
    kept out of the gradient (section 4.3), on the fused qkv, proj, fc1 and fc2 of all blocks. Starts from the
    pretrained function: B = 0 and m = |W|. 6.51 M parameters on a ViT-L at rank 16.
    """

    learning_rate_factor = 4.0

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 16

    def adapt(self, backbone: Backbone) -> None:
        """Inject the updates."""
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=linear_layers(backbone), use_dora=True)
        inject_adapter_in_model(config, backbone)
