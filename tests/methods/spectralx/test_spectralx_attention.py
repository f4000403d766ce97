import pytest
import torch
from torch.nn import functional as F

from spectral_tl_bench.methods.spectralx.attention import CrossAttention, TransformerBlock, WindowBlock


def attend_with_mask(block: WindowBlock, x: torch.Tensor) -> torch.Tensor:
    """The block with attention over the whole grid and everything outside a position's window masked."""
    _, height, width, _ = x.shape
    lower = torch.arange(height) >= (height + 1) // 2
    right = torch.arange(width) >= (width + 1) // 2
    window = (2 * lower.long().unsqueeze(1) + right.long()).flatten()
    qkv = block.qkv(block.norm1(x)).flatten(1, 2).unflatten(-1, (3, block.heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    attended = scores.masked_fill(window.unsqueeze(0) != window.unsqueeze(1), -torch.inf).softmax(-1) @ v
    x = x + block.projection(attended.transpose(1, 2).flatten(2).view_as(x))
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (6, 3), (2, 1), (1, 1)])
def test_window_attention_stays_within_the_quarters(size):
    torch.manual_seed(0)
    block = WindowBlock(16)
    x = torch.randn(2, *size, 16)
    torch.testing.assert_close(block(x), attend_with_mask(block, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [16, 12, 25])
def test_a_block_takes_as_many_heads_as_divide_its_width(width):
    block = TransformerBlock(width)
    assert width % block.heads == 0
    assert block(torch.randn(1, 5, width)).shape == (1, 5, width)


def test_cross_attention_of_shared_queries_equals_that_of_repeated_ones():
    torch.manual_seed(0)
    layer = CrossAttention(8, 12, 6)
    queries, source = torch.randn(1, 5, 8), torch.randn(3, 9, 12)
    torch.testing.assert_close(layer(queries, source), layer(queries.repeat(3, 1, 1), source))


def test_cross_attention_is_softmax_attention():
    torch.manual_seed(0)
    layer = CrossAttention(8, 12, 6)
    queries, source = torch.randn(3, 5, 8), torch.randn(3, 9, 12)
    u, w = F.layer_norm(queries, (8,)), F.layer_norm(source, (12,))
    weights = ((u @ layer.query.weight.T) @ (w @ layer.key.weight.T).mT / 6**0.5).softmax(-1)
    torch.testing.assert_close(layer(queries, source), weights @ (w @ layer.value.weight.T) @ layer.output.weight.T)
