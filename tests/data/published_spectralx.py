"""SpectralX's equations written out a second time (arXiv 2508.01731), plainly and one image after the other.

Nothing here is shared with the package: layers are functions of a state dictionary, attention is products and softmax,
experts are called one by one. ``w`` holds the weights of a module by the names they have there.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def part(w: Weights, prefix: str) -> Weights:
    """The weights of a child module."""
    return {name.removeprefix(f"{prefix}."): value for name, value in w.items() if name.startswith(f"{prefix}.")}


def linear(x: Tensor, w: Weights) -> Tensor:
    out = x @ w["weight"].T
    return out + w["bias"] if "bias" in w else out


def layer_norm(x: Tensor, w: Weights) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["weight"] + w["bias"]


def batch_norm(x: Tensor, w: Weights) -> Tensor:
    """At inference; channels are the second dimension."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scaled = (x - w["running_mean"].view(shape)) / (w["running_var"].view(shape) + 1e-5).sqrt()
    return scaled * w["weight"].view(shape) + w["bias"].view(shape)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def conv(x: Tensor, w: Weights, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, w["weight"], w.get("bias"), stride, padding)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1) @ v


def sines(positions: Tensor, width: int) -> Tensor:
    """N x width: sines, then cosines, of the positions times 10000^(-i / (width / 2))."""
    rates = 10_000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = positions.double()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


# Hyper Tokenizer


def residual(x: Tensor, w: Weights) -> Tensor:
    return x + gelu(batch_norm(conv(x, part(w, "convolution"), padding=1), part(w, "norm")))


def stem(images: Tensor, w: Weights) -> Tensor:
    x = residual(conv(images, part(w, "0")), part(w, "1"))
    x = batch_norm(conv(x, part(w, "2"), stride=2), part(w, "3"))
    x = batch_norm(conv(residual(x, part(w, "4")), part(w, "5"), stride=2), part(w, "6"))
    return conv(x, part(w, "7"), stride=2, padding=1)


def transformer_block(x: Tensor, w: Weights) -> Tensor:
    """A pre-norm block with 8 heads on N x width tokens."""
    q, k, v = linear(layer_norm(x, part(w, "norm1")), part(w, "qkv")).chunk(3, dim=-1)
    heads = [attention(*qkv) for qkv in zip(q.chunk(8, -1), k.chunk(8, -1), v.chunk(8, -1), strict=True)]
    x = x + linear(torch.cat(heads, dim=-1), part(w, "projection"))
    inner = gelu(linear(layer_norm(x, part(w, "norm2")), part(w, "mlp.0")))
    return x + linear(inner, part(w, "mlp.2"))


def window_block(x: Tensor, w: Weights) -> Tensor:
    """A block on h x w x width that attends within quarters; everything but the attention is position by position."""
    rows, columns = x.shape[0] // 2, x.shape[1] // 2
    out = torch.empty_like(x)
    for top in (0, rows):
        for left in (0, columns):
            window = x[top : top + rows, left : left + columns]
            tokens = transformer_block(window.reshape(-1, x.shape[-1]), w)
            out[top : top + rows, left : left + columns] = tokens.view(window.shape)
    return out


def attribute_match(queries: Tensor, source: Tensor, w: Weights) -> Tensor:
    q = linear(layer_norm(queries, part(w, "norm_query")), part(w, "query"))
    normed = layer_norm(source, part(w, "norm_source"))
    return linear(attention(q, linear(normed, part(w, "key")), linear(normed, part(w, "value"))), part(w, "output"))


def hyper_tokenizer(image: Tensor, w: Weights, wavelengths: list[float], metres: float) -> tuple[Tensor, ...]:
    """Tokens T x D, spatial hw x D/2 and spectral D/2 x hw of a C x H x W image of the reference size."""
    core = part(w, "core")
    features = stem(image[None], part(core, "stem"))[0]
    width, rows, columns = features.shape

    spatial = window_block(features.permute(1, 2, 0), part(core, "spatial_block"))
    of_column = sines(torch.arange(columns) * metres, width // 2)
    of_row = sines(torch.arange(rows) * metres, width // 2)
    for row in range(rows):
        for column in range(columns):
            spatial[row, column] += torch.cat([of_column[column], of_row[row]])
    spatial = spatial.flatten(0, 1)

    spectral = transformer_block(features.flatten(1), part(core, "spectral_block"))
    code = sines(torch.tensor(wavelengths), rows * columns)
    for channel in range(width):
        place = channel * (len(wavelengths) - 1) / (width - 1)
        below = min(int(place), len(wavelengths) - 2)
        spectral[channel] += code[below] + (place - below) * (code[below + 1] - code[below])

    halves = [
        attribute_match(core[f"{name}_queries"], source, part(core, f"{name}_match")) + core[f"{name}_queries"]
        for name, source in (("spatial", spatial), ("spectral", spectral))
    ]
    inner = gelu(linear(layer_norm(torch.cat(halves, dim=-1), part(core, "ffn.0")), part(core, "ffn.1")))
    fine, coarse = part(w, "pixels.0"), part(w, "pixels.1")
    pixels = conv(conv(image[None], fine, fine["weight"].shape[-1]), coarse, coarse["weight"].shape[-1])
    tokens = (linear(inner, part(core, "ffn.3")) + pixels[0].flatten(1).T) * w["scale"]
    return tokens, spatial, spectral


# Attribute-oriented mixture of adapters


def adapter(u: Tensor, w: Weights, attribute: int) -> Tensor:
    """A(u) of N x in/2 tokens, routed as attribute 0 (spatial) or 1 (spectral); top 2, without noise."""
    x = layer_norm(linear(layer_norm(u, part(w, "norm")), part(w, "down")), part(w, "norm_down"))
    moe = part(w, "mixture")
    logits = x @ moe["router.gate"][attribute]
    mixed = torch.zeros_like(x)
    for token, row in enumerate(logits):
        kept = row.topk(2).indices
        gates = torch.softmax(row[kept], dim=0)
        for gate, e in zip(gates, kept, strict=True):
            inner = torch.relu(moe["reduce_weight"][e] @ x[token] + moe["reduce_bias"][e])
            mixed[token] += gate * torch.exp(moe["expand_weight"][e] @ inner + moe["expand_bias"][e])
    return linear(mixed.log(), part(w, "up"))


def aomoa(x: Tensor, w: Weights) -> Tensor:
    """N x in tokens to N x out."""
    halves = [adapter(half, w, attribute) for attribute, half in enumerate(x.chunk(2, dim=-1))]
    return linear(x, part(w, "linear")) + w["scale"] * torch.cat(halves, dim=-1)


# Attribute-refined adapter


def match_weights(tokens: Tensor, source: Tensor, w: Weights) -> Tensor:
    """A: what each token (row) attends to; tokens query the feature map."""
    q = linear(layer_norm(tokens, part(w, "norm_tokens")), part(w, "query"))
    k = linear(layer_norm(source, part(w, "norm_map")), part(w, "key"))
    return torch.softmax(q @ k.T / math.sqrt(q.shape[-1]), dim=-1)


def matched(tokens: Tensor, source: Tensor, w: Weights, soft: bool) -> Tensor:
    weights = match_weights(tokens, source, w)
    if soft:
        return (weights / weights.sum(dim=0)).T @ tokens
    return torch.stack([tokens[column.argmax()] for column in weights.T])


def are_adapter(tokens: Tensor, spatial: Tensor, spectral: Tensor, w: Weights, side: int, soft: bool) -> Tensor:
    """T x D tokens refined; ``side`` is that of the square spatial map, twice that of the patch grid."""
    t_spa, t_spe = tokens.chunk(2, dim=-1)
    found = layer_norm(matched(t_spa, spatial, part(w, "spatial_match"), soft), part(w, "norm"))
    x = found.T.unflatten(1, (side, side))[None]
    refine = part(w, "spatial_refine")
    x = torch.relu(batch_norm(conv(x, part(refine, "0"), stride=2, padding=1), part(refine, "1")))
    x = torch.relu(batch_norm(conv(x, part(refine, "3"), padding=1), part(refine, "4")))
    g_spa = x[0].mean(dim=0).flatten()

    found = layer_norm(matched(t_spe, spectral, part(w, "spectral_match"), soft), part(w, "norm"))
    refine = part(w, "spectral_refine")
    x = (refine["0.weight"].squeeze(-1) @ found)[None]
    g_spe = torch.relu(batch_norm(x, part(refine, "1")))[0].mean(dim=-1)
    return tokens + w["strength"] * torch.cat([g_spa[:, None] * t_spa, g_spe[:, None] * t_spe], dim=-1)
