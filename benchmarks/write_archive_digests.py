"""Write the digests of the default archives into the package: python benchmarks/write_archive_digests.py."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from spectral_tl_bench.simulation import ARCHIVES, read_marker, simulate_archive

FILE = Path(__file__).parents[1] / "spectral_tl_bench" / "simulation" / "world" / "digests.json"
DRAWS = (0,)


def digest(name: str, draw: int) -> str:
    """Digest of all pixels and labels of an archive."""
    with tempfile.TemporaryDirectory() as folder:
        marker = read_marker(simulate_archive(name, Path(folder) / name, generation=2, draw=draw))
    return str((marker or {})["digest"])


if __name__ == "__main__":
    digests = {name: {str(draw): digest(name, draw) for draw in DRAWS} for name in ARCHIVES}
    FILE.write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
