import pytest
import torch
from peft import IA3Config, LoraConfig, inject_adapter_in_model
from small_vits import disturb, small_vit

from spectral_tl_bench.methods import build_method

ALL = [f"blocks.{i}.{n}" for i in range(4) for n in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
SCALED = [f"blocks.{i}.{n}" for i in range(4) for n in ("attn.qkv", "mlp.fc1", "mlp.fc2")]
BEFORE_FC2 = [n for n in SCALED if n.endswith("fc2")]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("lora", LoraConfig(r=16, lora_alpha=16, target_modules=ALL)),
        ("dora", LoraConfig(r=16, lora_alpha=16, target_modules=ALL, use_dora=True)),
        ("ia3", IA3Config(target_modules=SCALED, feedforward_modules=BEFORE_FC2)),
    ],
)
def test_equals_peft_on_the_same_weights(name, config):
    torch.manual_seed(0)
    images = torch.randn(1, 13, 24, 32)
    backbone, other = small_vit(), small_vit()
    plain = backbone(images)
    build_method(name).apply(backbone)
    disturb(backbone)
    inject_adapter_in_model(config, other)
    other.load_state_dict(backbone.state_dict())
    for ours, theirs, pretrained in zip(backbone(images), other(images), plain, strict=True):
        assert torch.equal(ours, theirs)
        assert not torch.allclose(ours, pretrained, atol=1e-4)


def test_dora_has_unit_directions_times_magnitudes():
    torch.manual_seed(0)
    backbone = small_vit()
    build_method("dora", {"rank": 2, "alpha": 4}).apply(backbone)
    disturb(backbone)
    layer = backbone.blocks[1].mlp.fc1
    direction = layer.base_layer.weight + 2 * layer.lora_B.default.weight @ layer.lora_A.default.weight
    magnitude = layer.lora_magnitude_vector.default.weight
    weight = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    x = torch.randn(5, 32)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, layer.base_layer.bias))


def test_ia3_scales_the_outputs_of_qkv_and_fc1_and_the_input_of_fc2():
    torch.manual_seed(0)
    backbone = small_vit()
    build_method("ia3").apply(backbone)
    disturb(backbone)
    block = backbone.blocks[0]
    x = torch.randn(5, 32)
    for layer in (block.attn.qkv, block.mlp.fc1):
        torch.testing.assert_close(layer(x), layer.base_layer(x) * layer.ia3_l.default.flatten())
    x, layer = torch.randn(5, 128), block.mlp.fc2
    torch.testing.assert_close(layer(x), layer.base_layer(x * layer.ia3_l.default.flatten()))
    assert isinstance(block.attn.proj, torch.nn.Linear)
