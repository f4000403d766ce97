"""From backbone features to logits: multi-level neck, UPerNet, and the whole segmenter."""

from spectral_tl_bench.decoders.segmenter import Segmenter

__all__ = ["Segmenter"]
