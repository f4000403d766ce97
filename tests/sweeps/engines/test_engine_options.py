"""From the options of a command to an engine: what does not suit is refused in one line."""

import sys

import pytest

from spectral_tl_bench.sweeps.engines.options import ENGINES, make_engine
from spectral_tl_bench.utils.errors import SpectralBenchError


def make(name, tmp_path, **options):
    return make_engine(name, tmp_path, **{"device": "cpu", "retries": 1} | options)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("condor", {}, r"unknown engine 'condor'.* local, ray, slurm"),
        ("local", {"address": "auto"}, "--address is for --engine ray; leave it out"),
        ("local", {"gpus": 1}, "--gpus is for --engine ray or slurm"),
        ("local", {"slurm": {"partition": "x"}}, "--slurm is for --engine slurm"),
        ("ray", {"jobs": 2}, "--jobs is for --engine local"),
        ("slurm", {"address": "auto"}, "--address is for --engine ray"),
    ],
)
def test_what_the_engine_would_ignore_is_refused(tmp_path, name, options, problem):
    with pytest.raises(SpectralBenchError, match=problem):
        make(name, tmp_path, **options)


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch, name, module):
    for loaded in [m for m in sys.modules if m.startswith("spectral_tl_bench.sweeps.engines.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    # The classes of modules that are loaded again are others, so the error is known by its text.
    with pytest.raises(Exception, match=rf'--engine {name} needs {module}: pip install "spectral-tl-bench\[{name}\]"'):
        make(name, tmp_path)


def test_the_local_engine_shares_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [make("local", tmp_path, jobs=jobs).threads for jobs in (None, 2, 16)] == [8, 4, 1]
    assert len(ENGINES) == 3


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("nowhere", "no Ray cluster answers at nowhere"),
        ("ray://head:10001", "start the sweep on a machine of the cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path, address, problem):
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(SpectralBenchError, match=problem), make("ray", tmp_path, address=address):
        pass


@pytest.fixture
def settings():
    pytest.importorskip("submitit", reason="submitit is not installed")
    from spectral_tl_bench.sweeps.engines.slurm_settings import parameters_of

    def parse(gpus=0, **given):
        return parameters_of(given, cpus=4, gpus=gpus)

    return parse


def test_settings_of_slurm_have_the_names_and_kinds_that_submitit_gives_them(settings):
    limits, parameters = settings(
        gpus=2,
        slurm_partition="gpu",
        timeout_min="30",
        mem_gb="16",
        array_parallelism="8",
        exclusive="true",
        setup="module load cuda",
        additional_parameters="{reservation: mine}",
        max_num_timeout="5",
    )
    assert limits == {"slurm_max_num_timeout": 5}
    assert parameters == {
        "name": "spectral-bench",
        "timeout_min": 30,
        "mem_gb": 16,
        "cpus_per_task": 4,
        "gpus_per_node": 2,
        "slurm_partition": "gpu",
        "slurm_array_parallelism": 8,
        "slurm_exclusive": True,
        "slurm_setup": ["module load cuda"],
        "slurm_additional_parameters": {"reservation": "mine"},
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"partitoin": "gpu"}, "unknown setting of --slurm 'partitoin': did you mean 'partition'"),
        ({"cpus_per_task": "4"}, "--slurm cpus_per_task: say it with --cpus"),
        ({"slurm_gpus_per_node": "4"}, "say it with --gpus"),
        ({"nodes": "2"}, "a run has one machine"),
        ({"time": "8:00:00"}, "timeout_min=8:00:00: a whole number"),
        ({"mem_gb": "0"}, "a whole number above 0"),
        ({"additional_parameters": "mine"}, "write it as {reservation: NAME}"),
        ({"additional_parameters": "{"}, "write it as {reservation: NAME}"),
        ({"gpus": 0.5}, "Slurm gives whole GPUs"),
    ],
)
def test_settings_that_slurm_would_not_take_are_refused(settings, given, problem):
    with pytest.raises(SpectralBenchError, match=problem):
        settings(**given)


def test_without_slurm_one_line_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpectralBenchError, match="there is no Slurm here"):
        make("slurm", tmp_path)
