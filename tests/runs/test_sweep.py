"""Suites: what they stand for, and that a sweep does what is missing and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from test_runner import TINY

from spectral_tl_bench.errors import RunFailedError, SpectralBenchError
from spectral_tl_bench.methods import all_method_names, build_any_method, method_names
from spectral_tl_bench.records import RECORD, find_runs, read_run
from spectral_tl_bench.runs.sweep import Suite, find_suite, read_suite, shipped_suites, sweep

SUITES = shipped_suites()


def suite_of(**changes):
    return Suite.model_validate(
        {"title": "tiny", "methods": ["frozen"], "protocols": ["whu_region/s2t"], "preset": "quick", "train": TINY}
        | changes
    )


@pytest.mark.parametrize("name", SUITES)
def test_every_shipped_suite_asks_for_runs_that_exist(name):
    asked = list(find_suite(name).requests(None))
    assert len(asked) >= 2
    for request in asked:
        build_any_method(request.choices.method, dict(request.choices.method_options))


def test_a_suite_is_the_product_of_its_lists():
    suite = suite_of(methods="all", protocols=["whu_region", "dfc_season"], seeds=[0, 1], weights=["none", "embedded"])
    asked = list(suite.requests(None))
    without_backbone = len(all_method_names()) - len(method_names())
    assert len(asked) == (len(method_names()) * 2 + without_backbone) * (2 + 4) * 2
    assert len({(a.choices.method, a.protocol.name, a.choices.seed, a.where.weights) for a in asked}) == len(asked)


def test_a_sweep_does_what_is_missing_and_a_failure_ends_nothing_else(whuohs_root, tmp_path, capfd):
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from dataclasses import dataclass\n\nfrom spectral_tl_bench.methods import Method\n\n\n@dataclass\n"
        "class Broken(Method):\n"
        "    def adapt(self, backbone):\n"
        "        raise LookupError('it does not\\nwork')\n"
    )
    suite = suite_of(methods=[f"{broken}:Broken", {"name": "lora", "options": {"rank": 2}}])
    for expected in ("2 runs, 0 of them already there", "2 runs, 1 of them already there"):
        with pytest.raises(RunFailedError, match=r"runs failed, first .*Broken"):
            sweep(suite, whuohs_root, tmp_path / "runs", Console(), device="cpu", jobs=2)
        output = capfd.readouterr().out
        assert expected in output
        assert "FAILED: method Broken fails to adapt the backbone: LookupError: it does not work" in output
    runs = [read_run(folder) for folder in find_runs(tmp_path / "runs") if (folder / RECORD).is_file()]
    assert [(run.record.spec.method_name, run.record.spec.method_options["rank"]) for run in runs] == [("lora", 2)]


def test_nothing_runs_if_any_input_is_wrong(whuohs_root, tmp_path):
    with pytest.raises(SpectralBenchError, match="unknown method 'frosen'"):
        sweep(suite_of(methods=["frozen", "frosen"]), whuohs_root, tmp_path / "r", Console(), device="cpu", jobs=1)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"title": "t", "methods": ["frozen"]}, "protocols"),
        ({"title": "t", "methods": ["frozen"], "protocols": ["whu_region"], "epochs": 3}, "epochs"),
        ({"title": "t", "methods": "every", "protocols": ["whu_region"]}, "methods"),
    ],
)
def test_a_suite_that_does_not_follow_the_format_is_refused_by_its_field(tmp_path, content, problem):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpectralBenchError, match=rf"suite\.yaml: {problem}"):
        read_suite(path)


def test_an_unknown_suite_names_the_nearest(tmp_path):
    with pytest.raises(SpectralBenchError, match=r"unknown suite 'whu_methods'.*whu_region_methods"):
        find_suite("whu_methods")
    with pytest.raises(SpectralBenchError, match=r"cannot read suite .*none\.yaml"):
        find_suite(str(tmp_path / "none.yaml"))


def is_running(process):
    """Whether there is such a process that has not ended; one that nobody collected yet has."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks processes up in /proc")
def test_a_killed_sweep_leaves_no_worker_behind(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(
        "import os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from spectral_tl_bench.runs.sweep import begin_worker\n\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=begin_worker) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 120).result()\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    patience = time.monotonic() + 20
    while is_running(worker) and time.monotonic() < patience:
        time.sleep(0.1)
    assert not is_running(worker)
