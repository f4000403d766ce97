"""How long a person waits for the command line to answer. Run with: pytest benchmarks/speed/test_startup.py"""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "arguments",
    [("-c", "pass"), ("-c", "import spectral_tl_bench"), ("-m", "spectral_tl_bench.cli.main", "--help")],
    ids=["bare Python", "import", "help"],
)
def test_startup(benchmark, arguments):
    benchmark.pedantic(
        subprocess.run,
        ([sys.executable, *arguments],),
        {"check": True, "capture_output": True},
        rounds=5,
        warmup_rounds=1,
    )
