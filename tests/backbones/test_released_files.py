"""Files with the names, containers and extra entries of their publishers load completely into every backbone."""

import pytest
import torch
from released_names import RELEASES, dinov3, dinov3_hugging_face, tensors
from safetensors.torch import save_file
from small_models import RGB, small_entry
from small_models import dinov3 as small_dinov3

from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.backbones.dinov3 import DINOv3Backbone
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.registry import BACKBONES

MADE_HERE = {"vit_micro", "spectral_mae_micro", "spectral_mae_b", "specaware_micro", "specaware_l"}
"""No publisher has released files of these."""
ELSEWHERE = {"specaware_b", "galileo_nano", "presto"}
"""Tested where its equations are."""


def write(path, state, container):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if container is None else container(state), path)
    return str(path)


def test_every_registered_backbone_has_a_release_or_none_is_known():
    assert set(BACKBONES.built_in) == set(RELEASES) | MADE_HERE | ELSEWHERE
    for name in MADE_HERE:
        assert backbone_entry(name).hub is None


@pytest.mark.parametrize("name", RELEASES)
def test_every_parameter_of_a_backbone_comes_from_the_released_file(tmp_path, name):
    shapes, suffix, container = RELEASES[name]
    state = tensors(shapes())
    backbone = small_entry(name).build(RGB, write(tmp_path / f"released{suffix}", state, container))
    assert not backbone.drawn
    known = {(tuple(t.shape), t.sum().item()) for t in state.values()}
    for parameter_name, parameter in backbone.named_parameters():
        value = parameter.detach()
        if name == "satmaepp_l" and parameter_name == "tokenizer.projection.weight":
            value = value.flip(1)  # trained on blue, green, red
        candidates = [value, *value.chunk(3)] if "qkv" in parameter_name else [value]
        assert any((tuple(t.shape), t.sum().item()) in known for t in candidates), parameter_name


def features(path):
    backbone = small_entry("dinov3_l_sat").build(RGB, path).eval()
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return backbone(images)


def renamed_to_hugging_face(state, prefix):
    """The authors' tensors by Hugging Face's names."""
    out = {}
    for name, tensor in state.items():
        if name.endswith("bias_mask") or name.startswith(("rope_embed", "local_cls_norm")):
            continue
        for theirs, ours in (
            ("storage_tokens", "embeddings.register_tokens"),
            ("cls_token", "embeddings.cls_token"),
            ("mask_token", "embeddings.mask_token"),
            ("patch_embed.proj.", "embeddings.patch_embeddings."),
            ("blocks.", f"{prefix}layer."),
            (".attn.proj.", ".attention.o_proj."),
            (".ls1.gamma", ".layer_scale1.lambda1"),
            (".ls2.gamma", ".layer_scale2.lambda1"),
            (".mlp.fc1.", ".mlp.up_proj."),
            (".mlp.fc2.", ".mlp.down_proj."),
        ):
            name = name.replace(theirs, ours)
        if ".attn.qkv." not in name:
            out[name] = tensor
            continue
        for part, share in zip(("q", "k", "v"), tensor.chunk(3), strict=True):
            if (part, name.rpartition(".")[2]) != ("k", "bias"):
                out[name.replace("attn.qkv", f"attention.{part}_proj")] = share.clone()
    return out


@pytest.mark.parametrize("prefix", ["", "model."])
def test_dinov3_computes_the_same_from_the_authors_file_and_from_hugging_faces(tmp_path, prefix):
    state = tensors(dinov3())
    theirs = renamed_to_hugging_face(state, prefix)
    assert {k: tuple(v.shape) for k, v in theirs.items()}.keys() == dinov3_hugging_face(prefix).keys()
    theirs["embeddings.mask_token"] = theirs["embeddings.mask_token"].unsqueeze(0)
    first = features(write(tmp_path / "dinov3_vitl16_pretrain_sat493m.pth", state, None))
    second = features(write(tmp_path / "model.safetensors", theirs, None))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_dinov3_equals_transformers_with_the_file_that_it_wrote(tmp_path):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    model = DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4, patch_size=16, image_size=224, **sizes)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.bias", "v_proj.bias")):
            parameter.data.zero_()
        else:
            parameter.data.normal_(0, 0.3)
    model.save_pretrained(tmp_path)
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images, output_hidden_states=True).hidden_states
    for ours, theirs in zip(features(str(tmp_path / "model.safetensors"))[:3], expected[1:4], strict=True):
        torch.testing.assert_close(ours.flatten(2).transpose(1, 2), theirs[:, 5:], atol=1e-4, rtol=1e-4)


def test_dinov3_with_biases_of_queries_is_refused(tmp_path):
    state = tensors(dinov3())
    state["blocks.1.attn.qkv.bias"][0] = 0.5
    with pytest.raises(CheckpointError, match=r"blocks.1.attn.qkv.bias is not 0.*not the released DINOv3 ViT-L"):
        features(write(tmp_path / "other.pth", state, None))


def test_a_masked_bias_of_keys_does_not_count(tmp_path):
    state = tensors(dinov3())
    state["blocks.1.attn.qkv.bias"][64:128] = 0.5
    assert len(features(write(tmp_path / "masked.pth", state, None))) == 4


def test_dinov3_in_timms_own_names_still_loads(tmp_path):
    model = small_dinov3(3)
    path = write(tmp_path / "timm.pth", model.state_dict(), None)
    expected = DINOv3Backbone(model, RGB).eval()
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(features(path), expected(images), strict=True):
            assert torch.equal(ours, theirs)
