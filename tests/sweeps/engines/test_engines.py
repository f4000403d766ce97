"""What every engine promises, with jobs that take no time.

Ray is a cluster of its own on this machine; Slurm is submitit's executor of local processes, and Slurm itself where it
answers.
"""

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import engine_jobs
import pytest
from engine_jobs import Dying, Failing, Locked, Saying, Waiting, processes_of, wait_for
from filelock import FileLock

from spectral_tl_bench.sweeps.engines.local import LocalEngine
from spectral_tl_bench.sweeps.engines.options import ENGINES

# One worker starts what they share.
pytestmark = pytest.mark.xdist_group("engines")


@pytest.fixture(scope="module")
def ray_cluster():
    """A Ray cluster of one machine, to which this process is connected: its workers serve all tests."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Where workers find the jobs.
        patch.setenv("PYTHONPATH", str(Path(engine_jobs.__file__).parent))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        ray.init(cluster.address, log_to_driver=False)
        yield
        ray.shutdown()
        cluster.shutdown()


def answers(command):
    """Whether there is such a command and it does not fail."""
    return shutil.which(command) is not None and subprocess.run(command, capture_output=True).returncode == 0


SLURM = pytest.mark.skipif(not answers("sinfo"), reason="no Slurm answers here")


@pytest.fixture(
    params=[
        "local",
        *(pytest.param(name, marks=pytest.mark.long) for name in ENGINES if name != "local"),
        pytest.param("slurm itself", marks=[pytest.mark.long, SLURM]),
    ]
)
def engine(request, tmp_path, monkeypatch):
    """Makes an engine of each kind."""
    monkeypatch.setenv("PYTHONPATH", str(Path(engine_jobs.__file__).parent))

    def make(jobs=2, retries=2):
        if request.param == "ray":
            from spectral_tl_bench.sweeps.engines.ray import RayEngine

            request.getfixturevalue("ray_cluster")
            return RayEngine(None, cpus=2 // jobs, gpus=0, retries=retries)
        if request.param.startswith("slurm"):
            pytest.importorskip("submitit", reason="submitit is not installed")
            from spectral_tl_bench.sweeps.engines.slurm import SlurmEngine

            if request.param == "slurm":
                return SlurmEngine(tmp_path, {}, cpus=1, gpus=0, retries=retries, cluster="local", poll=0.2)
            settings = {"array_parallelism": str(jobs), "timeout_min": "10"}
            return SlurmEngine(tmp_path, settings, cpus=1, gpus=0, retries=retries, poll=1.0)
        return LocalEngine(jobs, retries)

    return make


def outcomes(engine, jobs, **options):
    with engine:
        return {job.key: outcome for job, outcome in engine.run(jobs, **options)}


def test_every_job_ends_once_whatever_it_does(engine, tmp_path):
    with FileLock(tmp_path / ".lock"):
        jobs = [Saying("a/b", "well"), Failing("f"), Locked("l", tmp_path), *(Saying(str(i)) for i in range(5))]
        ended = outcomes(engine(), jobs)
    assert {key: (o.kind, o.text) for key, o in ended.items() if not key.isdigit()} == {
        "a/b": ("done", "well"),
        "f": ("failed", "it does not work"),
        "l": ("in use", "another process is at it"),
    }
    assert len(ended) == len(jobs)


def test_a_job_whose_worker_is_lost_is_started_again_and_its_lock_is_no_hindrance(engine, tmp_path):
    said = []
    jobs = [Dying("d", tmp_path), Saying("s")]
    ended = outcomes(engine(), jobs, say=said.append)
    assert (ended["d"].kind, ended["d"].text) == ("done", "time 2")
    assert ended["s"].kind == "done"
    (line,) = (line for line in said if "again" in line)
    assert line.startswith("job d: ")
    assert "started again (1 of 2)" in line


def test_a_job_that_kills_every_worker_is_given_up(engine, tmp_path):
    ended = outcomes(engine(retries=1), [Dying("d", tmp_path, times=9), Saying("s")])
    assert ended["d"].kind == "lost"
    assert ended["s"].kind == "done"
    assert len(processes_of(tmp_path)) == 2


def test_to_end_is_heard_by_workers_and_begins_nothing_new(engine, tmp_path, request):
    places = [tmp_path / name for name in "abc"]
    for place in places:
        place.mkdir()
    jobs = [Waiting(place.name, place) for place in places]
    one = engine(jobs=1)

    def ask():
        wait_for(lambda: processes_of(places[0]))
        one.end()

    thread = threading.Thread(target=ask)
    thread.start()
    ended = outcomes(one, jobs)
    thread.join()
    assert {outcome.kind for outcome in ended.values()} == {"interrupted"}
    assert (places[0] / "checkpoint").exists()
    if request.node.callspec.params["engine"] != "slurm":  # submitit's local processes all begin at once
        assert not processes_of(places[2])


def test_a_worker_that_somebody_else_asks_to_end_is_replaced(engine, tmp_path):
    def ask():
        (process,) = wait_for(lambda: processes_of(tmp_path))
        os.kill(process, signal.SIGTERM)
        wait_for(lambda: len(processes_of(tmp_path)) == 2)
        (tmp_path / "enough").touch()

    thread = threading.Thread(target=ask)
    thread.start()
    ended = outcomes(engine(), [Waiting("w", tmp_path)])
    thread.join()
    assert (ended["w"].kind, ended["w"].text) == ("done", "time 2")
    assert (tmp_path / "checkpoint").exists()
