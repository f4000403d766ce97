"""From backbone features to logits: a perceptron, UPerNet behind a multi-level neck, and the whole segmenter."""

from spectral_tl_bench.training.decoders.segmenter import Segmenter

__all__ = ["Segmenter"]
