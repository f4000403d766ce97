"""Protocols as data: one YAML file a group, read by :mod:`spectral_tl_bench.config.protocols`."""
