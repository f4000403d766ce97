"""A Ray cluster that loses a machine in the middle of a job."""

import threading
from pathlib import Path

import engine_jobs
import pytest
from engine_jobs import Waiting, processes_of, wait_for

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("engines")]


def test_a_job_whose_machine_is_lost_is_done_by_another(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    from spectral_tl_bench.sweeps.engines.ray import RayEngine

    monkeypatch.setenv("PYTHONPATH", str(Path(engine_jobs.__file__).parent))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    first = cluster.add_node(num_cpus=1)
    said, ended = [], []
    engine = RayEngine(cluster.address, cpus=1, gpus=0, retries=1)
    try:
        with engine:
            # Machines come and go by this process's main thread alone.
            working = threading.Thread(target=lambda: ended.extend(engine.run([Waiting("w", tmp_path)], said.append)))
            working.start()
            wait_for(lambda: processes_of(tmp_path))
            cluster.add_node(num_cpus=1)
            cluster.remove_node(first, allow_graceful=False)
            wait_for(lambda: len(processes_of(tmp_path)) == 2)
            (tmp_path / "enough").touch()
            working.join()
    finally:
        cluster.shutdown()
    ((_, outcome),) = ended
    assert (outcome.kind, outcome.text) == ("done", "time 2")
    assert len(said) == 1
    assert not (tmp_path / "checkpoint").exists()  # nobody could ask the worker that was lost
