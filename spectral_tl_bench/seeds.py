"""Seeds: which there are."""

LARGEST_SEED = 2**32 - 1
"""NumPy and Lightning take no larger one."""
