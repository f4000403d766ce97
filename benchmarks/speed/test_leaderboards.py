"""Boards and page from 5,000 records: seconds, and peak memory of a process of its own."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tests" / "data"))
from run_records import record, spec

from spectral_tl_bench.config.protocols import TRANSFERS
from spectral_tl_bench.records import RECORD, ClassLegend, ConfusionTable, TileCounts

RECORDS, SEEDS, CLASSES, TILES, SUBDOMAINS = 5_000, 5, 24, 96, 8

START = """
import sys, time
from pathlib import Path
started = time.monotonic()
from spectral_tl_bench.report.run_collection import RunCollection
collection = RunCollection.below(Path(sys.argv[1]))
out = Path(sys.argv[2])
"""
BOARDS = "from spectral_tl_bench.report.leaderboard import build\nbuild(collection, out / 'boards')\n"
PAGE = "from spectral_tl_bench.report.site import write_site\nwrite_site(collection, out / 'site')\n"
END = "print(len(collection.runs), len(collection.boards), time.monotonic() - started)\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Methods x transfers x five seeds, with as many tiles, sub-domains and classes as a simulated WHU-OHS has."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(20):
        table = ConfusionTable()
        for tile in range(TILES + 8):
            truth = rng.multinomial(4096, rng.dirichlet(np.full(CLASSES, 0.3)))
            matrix = np.stack([rng.multinomial(n, rng.dirichlet(np.full(CLASSES, 0.2))) for n in truth])
            part = ("target", f"city-{tile % SUBDOMAINS}") if tile < TILES else ("held_out_source", "home")
            table.add("best", part[0], f"tile-{tile}", part[1], matrix, 4096)
        tables.append(table.frame())
    classes = tuple(ClassLegend(name=f"class {n}", color="#102030") for n in range(CLASSES))
    tiles = TileCounts(train=100, held_out=8, target=TILES, margin=0)
    template = record(classes=classes, tiles=tiles)
    contents = []
    for table in tables:
        table.to_parquet(root / "table.tmp")
        contents.append((root / "table.tmp").read_bytes())
    (root / "table.tmp").unlink()
    # Written plainly: only the reading is timed, and five thousand safe writes take minutes.
    for number in range(RECORDS // len(TRANSFERS) // SEEDS):
        for protocol in TRANSFERS:
            for seed in range(SEEDS):
                run_spec = spec(protocol=protocol, method=f"method_{number}" if number else "frozen", seed=seed)
                folder = root / run_spec.folder
                folder.mkdir(parents=True)
                (folder / RECORD).write_text(template.model_copy(update={"spec": run_spec}).model_dump_json())
                (folder / "confusion.parquet").write_bytes(contents[(number + seed) % len(contents)])
    return root


@pytest.mark.parametrize("parts", [BOARDS, PAGE, BOARDS + PAGE], ids=["boards", "page", "both"])
def test_five_thousand_records_become_boards(benchmark, runs, tmp_path, parts):
    """Once, in a fresh process, imports included."""

    def build():
        command = [sys.executable, "-c", START + parts + END, str(runs), str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    found = benchmark.pedantic(build, rounds=1)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    benchmark.extra_info.update(records=int(found[0]), boards=int(found[1]), peak_mib=round(peak))
    print(json.dumps(benchmark.extra_info))  # noqa: T201
