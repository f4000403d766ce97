"""Methods that add nothing and only choose what trains."""

import pytest
from small_vits import small_vit

from spectral_tl_bench.methods import build_method

BIASES = {"norm1.bias", "norm2.bias", "attn.qkv.bias", "attn.proj.bias", "mlp.fc1.bias", "mlp.fc2.bias"}
NORMS = {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}
EMBEDDING = {"tokenizer.projection.weight", "tokenizer.projection.bias"}


@pytest.mark.parametrize(
    ("name", "in_blocks", "elsewhere"),
    [
        ("frozen", set(), EMBEDDING),
        ("bitfit", BIASES, {"tokenizer.projection.bias"}),
        ("norm", NORMS, set()),
    ],
)
def test_only_the_named_parameters_train(name, in_blocks, elsewhere):
    backbone = small_vit()
    build_method(name).apply(backbone)
    trainable = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert trainable == elsewhere | {f"blocks.{i}.{n}" for i in range(4) for n in in_blocks}


def test_full_trains_everything():
    backbone = small_vit()
    build_method("full").apply(backbone)
    assert all(p.requires_grad for p in backbone.parameters())
