"""Galileo's and Presto's encoders for Sentinel-2 written out a second time, with the names of their released files.

Nothing here is shared with the package. Groups of bands that are missing are left out, as the authors' masks do.
"""

import math

import torch
from published_spectralx import Weights, attention, gelu, layer_norm, linear, part
from torch import Tensor
from torch.nn import functional as F

GALILEO_GROUPS = ("S1", "S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR", "NDVI")
PRESTO_GROUPS = ("S1", "S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR", "ERA5", "SRTM", "NDVI")
HEADS = 8


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(-3, -2)


def block(x: Tensor, w: Weights) -> Tensor:
    normed = layer_norm(x, part(w, "norm1"))
    if "attn.qkv.weight" in w:
        q, k, v = (heads(y) for y in linear(normed, part(w, "attn.qkv")).chunk(3, dim=-1))
    else:
        q, k, v = (heads(linear(normed, part(w, f"attn.{name}"))) for name in "qkv")
    x = x + linear(attention(q, k, v).transpose(-3, -2).flatten(-2), part(w, "attn.proj"))
    return x + linear(gelu(linear(layer_norm(x, part(w, "norm2")), part(w, "mlp.fc1"))), part(w, "mlp.fc2"))


def depth(w: Weights) -> int:
    return sum(name.startswith("blocks.") and name.endswith("norm1.weight") for name in w)


def galileo_sines(positions: Tensor, width: int) -> Tensor:
    rates = torch.tensor([1 / 10_000 ** (i / width / 2) for i in range(width // 2)])
    angles = positions[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def galileo(groups: dict[str, list[Tensor]], months: list[int], metres: float, w: Weights) -> Tensor:
    """Features of patches, B x h x w x D: the mean of each patch's normed tokens.

    Args:
        groups: For each group, one image for each date, B x channels x H x W, normalised.
        months: Of each date, from 0.
        metres: Of a pixel.
        w: The released parameters.
    """
    tokens = []
    for name, images in groups.items():
        kernel, bias = w[f"space_time_embed.{name}.proj.weight"], w[f"space_time_embed.{name}.proj.bias"]
        for date, image in enumerate(images):
            pixels = F.unfold(image, 8, stride=8).transpose(1, 2) @ kernel.flatten(1).T + bias
            rows, columns = image.shape[-2] // 8, image.shape[-1] // 8
            places = torch.arange(rows * columns)
            step = metres * 8 / 10
            code = torch.cat(
                [
                    w["s_t_channel_embed"][GALILEO_GROUPS.index(name)].expand(len(places), -1),
                    w["pos_embed"][date].expand(len(places), -1),
                    w["month_embed.weight"][months[date]].expand(len(places), -1),
                    galileo_sines(places % columns * step, 16),
                    galileo_sines(places // columns * step, 16),
                ],
                dim=1,
            )
            tokens.append(pixels + code)
    count = len(tokens)
    x = torch.cat(tokens, dim=1)
    for index in range(depth(w)):
        x = block(x, part(w, f"blocks.{index}"))
    normed = layer_norm(x, part(w, "norm"))
    return normed.unflatten(1, (count, rows, columns)).mean(dim=1)


def presto(groups: dict[str, list[Tensor]], months: list[int], w: Weights) -> Tensor:
    """Features of pixels, N x D, of one N x channels array for each group and date; latitude and longitude are 0."""
    w = part(w, "encoder")
    tokens = [linear(torch.tensor([[1.0, 0.0, 0.0]]), part(w, "latlon_embed"))]
    pixels = len(next(iter(groups.values()))[0])
    tokens[0] = tokens[0].expand(pixels, -1)
    for name, dates in groups.items():
        for date, values in enumerate(dates):
            code = torch.cat(
                [
                    w["month_embed.weight"][months[date]],
                    w["channel_embed.weight"][PRESTO_GROUPS.index(name)],
                    w["pos_embed"][0, date],
                ]
            )
            tokens.append(linear(values, part(w, f"eo_patch_embed.{name}")) + code)
    x = torch.stack(tokens, dim=1)
    for index in range(depth(w)):
        x = block(x, part(w, f"blocks.{index}"))
    return layer_norm(x.mean(dim=1), part(w, "norm"))


def block_shapes(prefix: str, width: int, joint: bool) -> dict[str, tuple[int, ...]]:
    out = {f"{prefix}.{norm}.{kind}": (width,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
    layers = {"attn.qkv": (3 * width, width)} if joint else {f"attn.{name}": (width, width) for name in "qkv"}
    layers |= {"attn.proj": (width, width), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for name, shape in layers.items():
        out |= {f"{prefix}.{name}.weight": shape, f"{prefix}.{name}.bias": shape[:1]}
    return out


def galileo_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released nano encoder, all 106."""
    out: dict[str, tuple[int, ...]] = {"pos_embed": (24, 32), "month_embed.weight": (12, 32)}
    out |= {"s_t_channel_embed": (7, 32), "sp_channel_embed": (3, 32), "t_channel_embed": (3, 32)}
    out |= {"st_channel_embed": (4, 32), "norm.weight": (128,), "norm.bias": (128,)}
    for index in range(4):
        out |= block_shapes(f"blocks.{index}", 128, joint=False)
    space_time = dict(zip(GALILEO_GROUPS, (2, 3, 3, 1, 1, 2, 1), strict=True))
    for kind, channels in {"space_time": space_time, "space": {"SRTM": 2, "DW": 9, "WC": 5}}.items():
        for name, count in channels.items():
            out |= {f"{kind}_embed.{name}.proj.weight": (128, count, 8, 8), f"{kind}_embed.{name}.proj.bias": (128,)}
    static = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}
    for kind, channels in {"time": {"ERA5": 2, "TC": 3, "VIIRS": 1}, "static": static}.items():
        for name, count in channels.items():
            out |= {f"{kind}_embed.{name}.weight": (128, count), f"{kind}_embed.{name}.bias": (128,)}
    return out


def presto_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released encoder, and some of the decoder's."""
    channels = dict(zip(PRESTO_GROUPS, (2, 3, 3, 1, 1, 2, 2, 2, 1), strict=True))
    out: dict[str, tuple[int, ...]] = {"pos_embed": (1, 24, 64), "month_embed.weight": (12, 32)}
    out |= {"channel_embed.weight": (10, 32), "dw_embed.weight": (10, 128), "norm.weight": (128,), "norm.bias": (128,)}
    out |= {"latlon_embed.weight": (128, 3), "latlon_embed.bias": (128,)}
    for name, count in channels.items():
        out |= {f"eo_patch_embed.{name}.weight": (128, count), f"eo_patch_embed.{name}.bias": (128,)}
    for index in range(2):
        out |= block_shapes(f"blocks.{index}", 128, joint=True)
    decoder = {"decoder.mask_token": (128,), "decoder.pos_embed": (1, 24, 48), "decoder.decoder_norm.weight": (128,)}
    return {f"encoder.{name}": shape for name, shape in out.items()} | decoder


def random_weights(shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Random parameters, large enough that each counts."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32)
        is_norm = "norm" in name and name.endswith("weight")
        fan = math.prod(shape[1:]) if len(shape) > 1 and "embed." in name + "." and "code" not in name else 1
        state[name] = 1 + 0.1 * drawn if is_norm else drawn * (1.5 / math.sqrt(fan) if len(shape) > 1 else 0.1)
    return state
