"""Checks of the contracts of methods, backbones and datasets, for the tests of whoever writes one.

    from spectral_tl_bench.testing import check_method

    def test_bias_tuning():
        check_method(BiasTuning)

A check raises :class:`ContractError`, an ``AssertionError``, that says which contract is broken. ``METHOD_CHECKS``,
``PIXEL_MODEL_CHECKS`` and ``BACKBONE_CHECKS`` hold the single checks, to parametrise a test over.
"""

from spectral_tl_bench.testing.backbones import BACKBONE_CHECKS, check_backbone
from spectral_tl_bench.testing.contracts import ContractError
from spectral_tl_bench.testing.datasets import check_dataset
from spectral_tl_bench.testing.methods import METHOD_CHECKS, PIXEL_MODEL_CHECKS, check_method
from spectral_tl_bench.testing.small_backbones import small_backbone

__all__ = [
    "BACKBONE_CHECKS",
    "METHOD_CHECKS",
    "PIXEL_MODEL_CHECKS",
    "ContractError",
    "check_backbone",
    "check_dataset",
    "check_method",
    "small_backbone",
]
