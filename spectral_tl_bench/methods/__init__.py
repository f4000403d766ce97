"""How a backbone is adapted: the base classes that a baseline subclasses, and SpectralX."""

from spectral_tl_bench.config.spec import StageName
from spectral_tl_bench.methods.base import (
    AnyMethod,
    Classifier,
    Method,
    PixelModel,
    ReconstructionTarget,
    adapting_class,
    all_method_names,
    build_any_method,
    build_method,
    method_class,
    method_names,
    method_options,
)

__all__ = [
    "AnyMethod",
    "Classifier",
    "Method",
    "PixelModel",
    "ReconstructionTarget",
    "StageName",
    "adapting_class",
    "all_method_names",
    "build_any_method",
    "build_method",
    "method_class",
    "method_names",
    "method_options",
]
