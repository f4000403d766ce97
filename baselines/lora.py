"""LoRA through peft."""

from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method

LINEAR_LAYERS = r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"
"""Every linear layer of every transformer block, as peft's regular expression on module names."""


@dataclass
class LoRA(Method):
    """Low-rank updates of every linear layer of the blocks (Hu et al., 2022).

    W x becomes W x + (alpha / rank) B A x (eq. 3 of the paper) on the fused qkv, proj, fc1 and fc2 of all blocks, with A
    drawn at random and B = 0, so that training starts from the pretrained function. 6.29 M parameters on a ViT-L at
    rank 16.
    """

    rank: int = 16
    alpha: int = 16

    def adapt(self, backbone: Backbone) -> None:
        """Inject the updates."""
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=LINEAR_LAYERS, lora_dropout=0.0)
        inject_adapter_in_model(config, backbone)
