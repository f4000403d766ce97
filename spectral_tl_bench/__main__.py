"""``python -m spectral_tl_bench`` is ``spectral-bench``."""

from spectral_tl_bench.cli.main import main

main()
