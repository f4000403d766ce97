"""SpecAware's equations written out a second time, with the parameter names of its released files.

Nothing here is shared with the package. ``w`` holds the weights of a module by their released names.
"""

import math

import torch
from published_spectralx import Weights, attention, gelu, linear, part
from torch import Tensor
from torch.nn import functional as F

SENTENCE = 384


def shapes(width: int, depth: int, decoder: int, decoder_depth: int, patch: int = 8, rank: int = 64) -> dict:
    """Names and shapes of the parameters of a released file."""
    out: dict[str, tuple[int, ...]] = {}

    def layer(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        out[f"{name}.weight"] = (outputs, inputs)
        if bias:
            out[f"{name}.bias"] = (outputs,)

    def norm(name: str, size: int) -> None:
        out[f"{name}.weight"] = out[f"{name}.bias"] = (size,)

    def fusion(name: str) -> None:
        layer(f"{name}.modal1_proj", 128, 128)
        layer(f"{name}.modal2_proj", 128, 128)
        layer(f"{name}.fusion.0", 256, 128)
        norm(f"{name}.fusion.1", 128)

    def generators(name: str, left: int, right: int, bias: int) -> None:
        for kind, size in (("u", left), ("v", right)):
            norm(f"{name}.{kind}_generator.0", 128)
            layer(f"{name}.{kind}_generator.1", 128, 128)
            layer(f"{name}.{kind}_generator.4", 128, 64)
            layer(f"{name}.{kind}_generator.6", 64, size)
        norm(f"{name}.bias_generator.0", 128)
        layer(f"{name}.bias_generator.1", 128, 64)
        layer(f"{name}.bias_generator.3", 64, bias)

    def block(name: str, size: int) -> None:
        norm(f"{name}.norm1", size)
        layer(f"{name}.attn.qkv", size, 3 * size)
        layer(f"{name}.attn.proj", size, size)
        norm(f"{name}.norm2", size)
        layer(f"{name}.mlp.fc1", size, 4 * size)
        layer(f"{name}.mlp.fc2", 4 * size, size)

    spectral = "patch_embed.spectral_embedding"
    layer(f"{spectral}.fwhm_encoder.mlp.0", 1, 64)
    layer(f"{spectral}.fwhm_encoder.mlp.2", 64, 128)
    layer(f"{spectral}.attribute_encoder.fc", SENTENCE, 64)
    out[f"{spectral}.fusion_weights"] = (2,)
    layer(f"{spectral}.spectral_enhancement_mlp.mlp.0", 128, 256)
    layer(f"{spectral}.spectral_enhancement_mlp.mlp.2", 256, 128)
    fusion(f"{spectral}.cross_modal_fusion")
    across = "patch_embed.spectral_aware_transformer.transformer_encoder.layers.0"
    out[f"{across}.self_attn.in_proj_weight"], out[f"{across}.self_attn.in_proj_bias"] = (384, 128), (384,)
    layer(f"{across}.self_attn.out_proj", 128, 128)
    for number in (1, 2):
        layer(f"{across}.linear{number}", 128, 128)
        norm(f"{across}.norm{number}", 128)
    content = "patch_embed.content_feature_extractor"
    for kind in ("avg", "max"):
        layer(f"{content}.{kind}_feature_encoder.0", 784, 196)
        layer(f"{content}.{kind}_feature_encoder.2", 196, 128)
    layer(f"{content}.feature_fusion.0", 256, 256)
    layer(f"{content}.feature_fusion.3", 256, 128)
    norm(f"{content}.layer_norm", 128)
    generators("patch_embed.matrix_generator", width * rank, rank * patch**2, width)
    fusion("patch_embed.feature_fusion")
    out["patch_embed.scaler"] = ()
    out["cls_token"] = (1, 1, width)
    for index in range(depth):
        block(f"blocks.{index}", width)
    norm("norm", width)
    layer("decoder_embed", width, decoder)
    out["mask_token"] = (1, 1, decoder)
    for index in range(decoder_depth):
        block(f"decoder_blocks.{index}", decoder)
    norm("decoder_norm", decoder)
    for name in ("query", "key"):
        layer(f"decoder_pred.x_attention_pool.{name}_proj", decoder, 64, bias=False)
    layer("decoder_pred.x_attention_pool.value_proj", decoder, decoder, bias=False)
    layer("decoder_pred.x_feature_extractor.0", decoder, 128)
    layer("decoder_pred.x_feature_extractor.2", 128, 128)
    generators("decoder_pred.matrix_generator", patch**2 * rank, rank * decoder, patch**2)
    fusion("decoder_pred.feature_fusion")
    return out


def random_weights(names: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """Random parameters of these names and shapes, large enough that each counts."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in names.items():
        drawn = torch.randn(shape, generator=generator)
        spread = 0.1 if len(shape) < 2 else 1.5 / math.sqrt(shape[-1])
        is_norm = len(shape) == 1 and name.endswith(".weight")
        state[name] = 1 + 0.1 * drawn if is_norm else spread * drawn
    return state


def layer_norm(x: Tensor, w: Weights, epsilon: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt() * w["weight"] + w["bias"]


def heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(-3, -2)


def self_attention(x: Tensor, joint: Weights, out: Weights, count: int) -> Tensor:
    q, k, v = (heads(part, count) for part in linear(x, joint).chunk(3, dim=-1))
    return linear(attention(q, k, v).transpose(-3, -2).flatten(-2), out)


def block(x: Tensor, w: Weights, count: int) -> Tensor:
    normed = layer_norm(x, part(w, "norm1"), 1e-6)
    x = x + self_attention(normed, part(w, "attn.qkv"), part(w, "attn.proj"), count)
    hidden = gelu(linear(layer_norm(x, part(w, "norm2"), 1e-6), part(w, "mlp.fc1")))
    return x + linear(hidden, part(w, "mlp.fc2"))


def fuse(a: Tensor, b: Tensor, w: Weights) -> Tensor:
    first, second = linear(a, part(w, "modal1_proj")), linear(b, part(w, "modal2_proj"))
    joint = linear(torch.cat([first, second], dim=-1), part(w, "fusion.0"))
    return first + gelu(layer_norm(joint, part(w, "fusion.1"), 1e-5))


def two_layers(x: Tensor, w: Weights, second: str = "2") -> Tensor:
    return linear(gelu(linear(x, part(w, "0"))), part(w, second))


def matrix(codes: Tensor, w: Weights) -> Tensor:
    hidden = gelu(linear(layer_norm(codes, part(w, "0"), 1e-5), part(w, "1")))
    return linear(gelu(linear(hidden, part(w, "4"))), part(w, "6"))


def bias(codes: Tensor, w: Weights) -> Tensor:
    hidden = gelu(linear(layer_norm(codes, part(w, "0"), 1e-5), part(w, "1")))
    return linear(hidden, part(w, "3"))


def meta(wavelengths: Tensor, widths: Tensor, name: Tensor, level: Tensor, w: Weights) -> Tensor:
    """E_meta, C x 128, of C wavelengths and widths in nm and the sentence vectors of sensor name and level."""
    periods = torch.logspace(math.log10(350), math.log10(2550), 64, dtype=torch.float64)
    angles = 2 * math.pi * wavelengths.double()[:, None] / periods
    code = torch.cat([angles.sin(), angles.cos()], dim=-1).float()
    spectral = part(w, "spectral_embedding")
    width = two_layers(((widths - 5) / 10)[:, None], part(spectral, "fwhm_encoder.mlp"))
    shares = torch.softmax(spectral["fusion_weights"], dim=0)
    bands = shares[0] * code + shares[1] * width
    bands = bands + two_layers(bands, part(spectral, "spectral_enhancement_mlp.mlp"))
    words = torch.cat([linear(v, part(spectral, "attribute_encoder.fc")) for v in (name, level)]).expand(len(bands), -1)
    fused = fuse(bands, words, part(spectral, "cross_modal_fusion")) + bands
    across = part(w, "spectral_aware_transformer.transformer_encoder.layers.0")
    joint = {"weight": across["self_attn.in_proj_weight"], "bias": across["self_attn.in_proj_bias"]}
    x = fused + self_attention(
        layer_norm(fused, part(across, "norm1"), 1e-5), joint, part(across, "self_attn.out_proj"), 4
    )
    hidden = gelu(linear(layer_norm(x, part(across, "norm2"), 1e-5), part(across, "linear1")))
    return x + linear(hidden, part(across, "linear2")) + fused


def tokens(images: Tensor, e_meta: Tensor, w: Weights, patch: int = 8, rank: int = 64) -> Tensor:
    """Patch tokens without positions, B x T x D; ``w`` is that of ``patch_embed``."""
    content = part(w, "content_feature_extractor")
    pooled = [
        two_layers(pool(images, 28).flatten(2), part(content, f"{kind}_feature_encoder"))
        for kind, pool in (("avg", F.adaptive_avg_pool2d), ("max", F.adaptive_max_pool2d))
    ]
    joint = two_layers(torch.cat(pooled, dim=-1), part(content, "feature_fusion"), second="3")
    seen = layer_norm(joint, part(content, "layer_norm"), 1e-5)
    codes = fuse(e_meta.expand_as(seen), seen, part(w, "feature_fusion")) + e_meta
    generate = part(w, "matrix_generator")
    left = matrix(codes, part(generate, "u_generator")).unflatten(-1, (-1, rank))
    right = matrix(codes, part(generate, "v_generator")).unflatten(-1, (rank, patch**2))
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2).unflatten(-1, (images.shape[1], -1))
    out = torch.einsum("bcdr,bcrp,bncp->bnd", left, right, patches)
    return w["scaler"] * (out + bias(codes.mean(dim=1), part(generate, "bias_generator"))[:, None])


def positions(rows: int, columns: int, width: int, metres: float) -> Tensor:
    """Sines and cosines of the column, then of the row, both times the ground sampling distance."""
    rates = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def code(places: Tensor) -> Tensor:
        angles = places.double()[:, None] * metres * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    places = torch.arange(rows * columns)
    return torch.cat([code(places % columns), code(places // columns)], dim=1).float()


def encode(x: Tensor, w: Weights, count: int) -> list[Tensor]:
    """Class token and patches after each block, the last ones normed."""
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1)
    after = []
    for index in range(sum(name.endswith("attn.qkv.weight") and name.startswith("blocks.") for name in w)):
        x = block(x, part(w, f"blocks.{index}"), count)
        after.append(x)
    return [*after[:-1], layer_norm(x, part(w, "norm"), 1e-6)]


def head(x: Tensor, e_meta: Tensor, w: Weights, rank: int = 64) -> Tensor:
    """Pixels of each token, B x N x C x k^2."""
    pool = part(w, "x_attention_pool")
    q, k, v = x.mean(1, keepdim=True) @ pool["query_proj.weight"].T, x @ pool["key_proj.weight"].T, None
    v = x @ pool["value_proj.weight"].T
    content = two_layers(attention(q, k, v), part(w, "x_feature_extractor"))
    codes = (
        fuse(e_meta.expand(len(x), -1, -1), content.expand(-1, len(e_meta), -1), part(w, "feature_fusion")) + content
    )
    generate = part(w, "matrix_generator")
    left = matrix(codes, part(generate, "u_generator")).unflatten(-1, (-1, rank))
    right = matrix(codes, part(generate, "v_generator")).unflatten(-1, (rank, -1))
    pixels = torch.einsum("bcpr,bcrd,bnd->bncp", left, right, x)
    return pixels + bias(codes, part(generate, "bias_generator"))[:, None]


def decode(
    encoded: Tensor, visible: Tensor, grid: tuple[int, int], metres: float, e_meta: Tensor, w: Weights, count: int
):
    """Restore all patches from the class token and the visible ones, B x T x C x k^2."""
    embedded = linear(encoded, part(w, "decoder_embed"))
    places = grid[0] * grid[1]
    filled = w["mask_token"].repeat(len(encoded), places, 1)
    for image in range(len(encoded)):
        filled[image, visible[image]] = embedded[image, 1:]
    x = torch.cat([embedded[:, :1], filled + positions(*grid, filled.shape[-1], metres)], dim=1)
    for index in range(sum(name.startswith("decoder_blocks") and name.endswith("qkv.weight") for name in w)):
        x = block(x, part(w, f"decoder_blocks.{index}"), count)
    return head(layer_norm(x, part(w, "decoder_norm"), 1e-6), e_meta, part(w, "decoder_pred"))[:, 1:]


def loss(restored: Tensor, images: Tensor, hidden: Tensor, patch: int = 8) -> Tensor:
    """(1 - cosine of spectra) + 2 x Charbonnier on hidden pixels; ``restored`` is B x T x C x k^2."""
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2).unflatten(-1, (images.shape[1], -1))
    ours, theirs = (x.transpose(2, 3)[hidden].flatten(0, 1) for x in (restored, patches))
    angle = 1 - (ours * theirs).sum(-1) / (ours.norm(dim=-1) * theirs.norm(dim=-1))
    return angle.mean() + 2 * (((ours - theirs) ** 2 + 1).sqrt() - 1).mean()
