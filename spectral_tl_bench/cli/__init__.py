"""The command line ``spectral-bench``."""
