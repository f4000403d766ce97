"""Sweeps: they do what is missing and nothing else, and two of them do not collide."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from tiny_run import TINY

from spectral_tl_bench.records import RECORD, find_runs, read_run
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.sweeps.engines.local import LocalEngine
from spectral_tl_bench.sweeps.suite import Suite
from spectral_tl_bench.sweeps.sweep import RunJob, sweep
from spectral_tl_bench.utils.errors import RunFailedError, SpectralBenchError
from spectral_tl_bench.utils.interruption import Interruption
from spectral_tl_bench.utils.runtime import RuntimeOptions


def suite_of(**changes):
    return Suite.model_validate(
        {"title": "tiny", "methods": ["frozen"], "protocols": ["whu_region/s2t"], "preset": "quick", "train": TINY}
        | changes
    )


def sweep_here(suite, root, out, jobs=1):
    sweep(suite, root, out, LocalEngine(jobs, retries=0), RuntimeOptions(device="cpu", console=Console()))


@pytest.mark.long
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
            sweep_here(suite, whuohs_root, tmp_path / "runs")
        output = capfd.readouterr().out
        assert expected in output
        assert "FAILED: method Broken fails to adapt the backbone: LookupError: it does not work" in output
    runs = [read_run(folder) for folder in find_runs(tmp_path / "runs") if (folder / RECORD).is_file()]
    assert [(run.record.spec.method_name, run.record.spec.method_options["rank"]) for run in runs] == [("lora", 2)]


def test_nothing_runs_if_any_input_is_wrong(whuohs_root, tmp_path):
    with pytest.raises(SpectralBenchError, match="unknown method 'frosen'"):
        sweep_here(suite_of(methods=["frozen", "frosen"]), whuohs_root, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_worker_whose_files_make_it_another_run_or_are_not_there_does_nothing(whuohs_root, tmp_path, two_cities):
    (request,) = suite_of(protocols=[two_cities], weights=["none"]).requests(whuohs_root)
    spec = plan(request).spec
    job = RunJob(request, spec.model_copy(update={"data": "others"}), tmp_path, 1, RuntimeOptions(device="cpu"))
    with pytest.raises(RunFailedError, match=r"this worker sees other inputs than the sweep did \(data\)"):
        job(Interruption())
    moved = replace(request, where=request.where.model_copy(update={"root": tmp_path / "nowhere"}))
    with pytest.raises(SpectralBenchError, match=r"there is no folder .*nowhere"):
        replace(job, request=moved, spec=spec)(Interruption())
    assert not list(tmp_path.iterdir())


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
        "from spectral_tl_bench.sweeps.engines.local import begin_worker\n\n"
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


@pytest.mark.long
def test_two_sweeps_over_one_folder_do_not_collide(whuohs_root, two_cities, tmp_path):
    suite = tmp_path / "suite.yaml"
    content = {"title": "t", "methods": ["frozen"], "protocols": [two_cities], "seeds": [0, 1, 2], "preset": "quick"}
    suite.write_text(yaml.safe_dump(content | {"weights": ["none"], "train": TINY}))
    command = [sys.executable, "-m", "spectral_tl_bench", "sweep", str(suite), "--root", str(whuohs_root)]
    command += ["--out", str(tmp_path / "runs"), "--device", "cpu"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folders = find_runs(tmp_path / "runs")
    assert sorted(read_run(folder).record.spec.seed for folder in folders) == [0, 1, 2]
    assert not [path for path in (tmp_path / "runs").rglob(".*") if path.is_file()]
    for lines in said:
        assert all("target mIoU" in line or "left to another process" in line for line in lines.splitlines()[1:])
