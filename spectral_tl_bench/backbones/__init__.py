"""Backbones: pretrained vision transformers, one file per family."""

from spectral_tl_bench.backbones.base import Backbone, PatchEmbedding, TapModule, Tokenizer, Tokens
from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.layout import Layout
from spectral_tl_bench.backbones.registry import backbone_entry, backbone_names, build_backbone, weights_fingerprint

__all__ = [
    "Backbone",
    "BackboneEntry",
    "Layout",
    "PatchEmbedding",
    "TapModule",
    "Tokenizer",
    "Tokens",
    "backbone_entry",
    "backbone_names",
    "build_backbone",
    "weights_fingerprint",
]
