"""Backbones small enough for every test, with any number of prefix tokens."""

from functools import partial

from spectral_tl_bench.testing.small_backbones import WIDTH, disturb, small_backbone

small_vit = small_backbone
small_rotary_vit = partial(small_backbone, rotary=True)

__all__ = ["WIDTH", "disturb", "small_rotary_vit", "small_vit"]
