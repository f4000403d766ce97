"""SpectralX (Zhang et al., arXiv 2508.01731): an RGB foundation model adapted to a spectral sensor in two stages.

:mod:`~spectral_tl_bench.methods.spectralx.hyper_tokenizer` turns spectral images into tokens,
:mod:`~spectral_tl_bench.methods.spectralx.aomoa` adapts the MLPs of the tap blocks,
:mod:`~spectral_tl_bench.methods.spectralx.are_adapter` refines the tokens after them, and
:mod:`~spectral_tl_bench.methods.spectralx.method` puts the three into a backbone and says what trains when.
"""
