"""Parameter names, shapes and containers of files as their publishers released them, written down by hand.

Widths and depths are those of the small models (64 wide, 4 deep); everything else is as released.
"""

import argparse

import torch

WIDTH, DEPTH = 64, 4
Shapes = dict[str, tuple[int, ...]]


def layer(name: str, outputs: int, inputs: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, width: int = WIDTH) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def blocks(prefix: str = "blocks", scales: tuple[str, str] | None = None, width: int = WIDTH) -> Shapes:
    """A ViT's blocks as timm and the original code of MAE, DINOv2 and most others name them."""
    out: Shapes = {}
    for index in range(DEPTH):
        block = f"{prefix}.{index}"
        out |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        out |= layer(f"{block}.attn.qkv", 3 * width, width) | layer(f"{block}.attn.proj", width, width)
        out |= layer(f"{block}.mlp.fc1", 4 * width, width) | layer(f"{block}.mlp.fc2", width, 4 * width)
        if scales is not None:
            out |= {f"{block}.{scale}": (width,) for scale in scales}
    return out


def projection(patch: int, name: str = "patch_embed.proj") -> Shapes:
    return {f"{name}.weight": (WIDTH, 3, patch, patch), f"{name}.bias": (WIDTH,)}


def mae_decoder(patch_values: int, places: int = 197, width: int = 32) -> Shapes:
    """The decoder of a masked autoencoder, as files released for visualisation have it."""
    return (
        {"mask_token": (1, 1, width), "decoder_pos_embed": (1, places, width)}
        | layer("decoder_embed", width, WIDTH)
        | blocks("decoder_blocks", width=width)
        | norm("decoder_norm", width)
        | layer("decoder_pred", patch_values, width)
    )


def mae() -> Shapes:
    """facebookresearch/mae, mae_visualize_vit_base.pth."""
    encoder = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 197, WIDTH)} | projection(16) | blocks() | norm("norm")
    return encoder | mae_decoder(768)


def augreg() -> Shapes:
    """timm's vit_small_patch16_224.augreg_in21k_ft_in1k, with its classifier."""
    return {k: v for k, v in mae().items() if "decoder" not in k and k != "mask_token"} | layer("head", 1000, WIDTH)


def scalemae() -> Shapes:
    """bair-climate-initiative/scale-mae, scalemae-vitlarge-800.pth."""
    pyramid = {
        **layer("fpn.do_fpn1.0", 32, 32),
        **layer("fcn_high.convs.0", 32, 32),
        **layer("fcn_low.convs.0", 32, 32),
        **layer("pos_emb_projection", 32, 32),
        "mask_token_decoder": (1, 1, 32),
    }
    return mae() | pyramid


def satmaepp() -> Shapes:
    """techmn/satmae_pp, the ViT-L of fMoW RGB, without the encoder's norm, with its upsampling blocks."""
    upsampling = {
        "proj_up_conv.weight": (32, 32, 2, 2),
        **norm("proj_up_norm", 32),
        "up_block.res_block.conv1.weight": (32, 32, 3, 3),
    }
    return {k: v for k, v in mae().items() if not k.startswith("norm.")} | upsampling


def dinov2() -> Shapes:
    """facebookresearch/dinov2, dinov2_vitb14_pretrain.pth."""
    first = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + 37 * 37, WIDTH), "mask_token": (1, WIDTH)}
    return first | projection(14) | blocks(scales=("ls1.gamma", "ls2.gamma")) | norm("norm")


def dinov3() -> Shapes:
    """facebookresearch/dinov3, dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth."""
    first = {"cls_token": (1, 1, WIDTH), "storage_tokens": (1, 4, WIDTH), "mask_token": (1, WIDTH)}
    masks = {f"blocks.{index}.attn.qkv.bias_mask": (3 * WIDTH,) for index in range(DEPTH)}
    turned = {"rope_embed.periods": (WIDTH // 4 // 4,)}
    norms = norm("norm") | norm("local_cls_norm")
    return first | turned | projection(16) | blocks(scales=("ls1.gamma", "ls2.gamma")) | masks | norms


def dinov3_hugging_face(prefix: str = "") -> Shapes:
    """facebook/dinov3-vitl16-pretrain-sat493m, model.safetensors; transformers 5 writes ``prefix`` "model."."""
    out: Shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.register_tokens": (1, 4, WIDTH),
        "embeddings.mask_token": (1, 1, WIDTH),
    } | projection(16, "embeddings.patch_embeddings")
    for index in range(DEPTH):
        block = f"{prefix}layer.{index}"
        out |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            out |= layer(f"{block}.attention.{part}", WIDTH, WIDTH, bias=part != "k_proj")
        out |= {f"{block}.layer_scale1.lambda1": (WIDTH,), f"{block}.layer_scale2.lambda1": (WIDTH,)}
        out |= layer(f"{block}.mlp.up_proj", 4 * WIDTH, WIDTH) | layer(f"{block}.mlp.down_proj", WIDTH, 4 * WIDTH)
    return out | norm("norm")


def generated_embedding(name: str, language: bool = False) -> Shapes:
    """The generator of kernels of DOFA and Copernicus-FM."""
    generator = f"{name}.weight_generator"
    encoder = f"{generator}.transformer_encoder.layers.0"
    out = {
        f"{generator}.weight_tokens": (128, 128),
        f"{generator}.bias_token": (1, 128),
        f"{encoder}.self_attn.in_proj_weight": (384, 128),
        f"{encoder}.self_attn.in_proj_bias": (384,),
        **layer(f"{encoder}.self_attn.out_proj", 128, 128),
        **layer(f"{encoder}.linear1", 2048, 128),
        **layer(f"{encoder}.linear2", 128, 2048),
        **norm(f"{encoder}.norm1", 128),
        **norm(f"{encoder}.norm2", 128),
        **layer(f"{generator}.fc_weight", 16 * 16 * WIDTH, 128),
        **layer(f"{generator}.fc_bias", WIDTH, 128),
        **layer(f"{name}.fclayer.w1", 128, 128),
        **layer(f"{name}.fclayer.w2", 128, 128),
    }
    return out | (layer(f"{name}.language_proj", 128, 2048) if language else {})


def dofa() -> Shapes:
    """zhu-xlab/DOFA, DOFA_ViT_base_e100.pth, with what is left of its distillation."""
    first = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 197, WIDTH), "mask_token": (1, 1, 32)}
    return first | generated_embedding("patch_embed") | blocks() | norm("norm") | layer("projector", WIDTH, WIDTH)


def copernicusfm() -> Shapes:
    """wangyi111/Copernicus-FM, CopernicusFM_ViT_base_varlang_e100.pth."""
    tokens = {f"{kind}_token": (1, 1, WIDTH) for kind in ("cls", "coord", "scale", "time")}
    codes = {k: v for kind in ("coord", "scale", "time") for k, v in layer(f"{kind}_fc", WIDTH, WIDTH).items()}
    embeddings = generated_embedding("patch_embed_spectral") | generated_embedding(
        "patch_embed_variable", language=True
    )
    return tokens | {"pos_embed": (1, 197, WIDTH)} | codes | embeddings | blocks()


def panopticon() -> Shapes:
    """Panopticon-FM/panopticon, panopticon_vitb14_teacher.pth; the attention across bands is 96 wide here."""
    first = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + 37 * 37, WIDTH), "mask_token": (1, WIDTH)}
    embedding = {
        "patch_embed.conv3d.conv3d.weight": (96, 1, 1, 14, 14),
        "patch_embed.conv3d.conv3d.bias": (96,),
        "patch_embed.chnfus.query": (1, 1, 96),
        **{f"patch_embed.chnfus.chnemb.embed_{kind}": (2, 32) for kind in ("transmit", "receive", "orbit")},
        **layer("patch_embed.chnfus.xattn.inproj_k", 96, 96, bias=False),
        **layer("patch_embed.chnfus.xattn.inproj_v", 96, 96, bias=False),
        **layer("patch_embed.proj", WIDTH, 96),
    }
    return first | embedding | blocks(scales=("ls1.gamma", "ls2.gamma")) | norm("norm")


def tensors(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors of these shapes; DINOv3's biases of queries, keys and values are 0, as in the release."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    if "storage_tokens" in state or "embeddings.register_tokens" in state:
        for name in state:
            if name.endswith(("qkv.bias", "q_proj.bias", "v_proj.bias")):
                state[name].zero_()
            elif name.endswith("bias_mask"):
                state[name] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(WIDTH)
    return state


def masked_autoencoder_file(state: dict[str, torch.Tensor]) -> dict:
    """The container of masked autoencoders: the state of training beside the model."""
    arguments = argparse.Namespace(lr=1e-4, model="mae_vit_large_patch16", world_size=64)
    return {
        "model": state,
        "optimizer": {"param_groups": []},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": arguments,
    }


RELEASES = {
    "vit_s_mae": (augreg, ".safetensors", None),
    "vit_b_mae": (mae, ".pth", masked_autoencoder_file),
    "vit_l_mae": (mae, ".pth", masked_autoencoder_file),
    "scalemae_l": (scalemae, ".pth", masked_autoencoder_file),
    "satmaepp_l": (satmaepp, ".pth", masked_autoencoder_file),
    "dinov2_s": (dinov2, ".pth", None),
    "dinov2_b": (dinov2, ".pth", None),
    "dinov2_l": (dinov2, ".pth", None),
    "dinov3_l_sat": (dinov3, ".pth", None),
    "dofa_b": (dofa, ".pth", None),
    "dofa_l": (dofa, ".pth", None),
    "panopticon_b": (panopticon, ".pth", None),
    "copernicusfm_b": (copernicusfm, ".pth", None),
}
"""Names and shapes, kind of file, and container of each registered backbone's release."""
