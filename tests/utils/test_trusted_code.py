"""Python files that a run folder names: they run for whom they have run before, and for others on request."""

import shutil

import pytest
from command_line import command

from spectral_tl_bench.prediction.restore import restore_run
from spectral_tl_bench.runs.requests import repeated
from spectral_tl_bench.utils.errors import SpectralBenchError

BIAS = """
from dataclasses import dataclass
from pathlib import Path

from spectral_tl_bench.methods import Method

Path(__file__).with_suffix(".ran").touch()


@dataclass
class Bias(Method):
    def adapt(self, backbone):
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad = name.endswith("bias")
"""


@pytest.fixture
def sent(train, tmp_path, monkeypatch):
    """The folder of a run that another user made, and the file that it names."""
    file = tmp_path / "bias.py"
    file.write_text(BIAS)
    folder = train(tmp_path / "runs", f"{file}:Bias").folder
    assert restore_run(folder).adapter.spec.method == f"{file}:Bias"
    file.with_suffix(".ran").unlink()
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(tmp_path / "cache-of-another-user"))
    return folder, file


@pytest.mark.slow
def test_code_that_this_user_has_not_run_runs_on_request_alone(sent):
    folder, file = sent
    for use in (restore_run, lambda folder: repeated(folder / "run.yaml", None)):
        with pytest.raises(SpectralBenchError, match=r"bias\.py, Python code that you have not run .*--trust-code"):
            use(folder)
    assert not file.with_suffix(".ran").exists()
    restore_run(folder, trust_code=True)
    assert file.with_suffix(".ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["predict", "RUN", "a.tif", "b.tif"], ["show", "RUN", "--maps", "1"]], ids=str)
def test_commands_refuse_it_in_one_line(sent, arguments, tmp_path, capfd, monkeypatch):
    folder, file = sent
    monkeypatch.chdir(tmp_path)
    result = command(capfd, *(folder if argument == "RUN" else argument for argument in arguments))
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--trust-code" in result.err
    assert not file.with_suffix(".ran").exists()


@pytest.mark.slow
def test_the_same_file_elsewhere_is_another_file(sent, tmp_path, monkeypatch):
    folder, file = sent
    monkeypatch.undo()
    moved = tmp_path / "moved" / file.name
    moved.parent.mkdir()
    shutil.move(file, moved)
    config = folder / "run.yaml"
    config.write_text(config.read_text().replace(str(file), str(moved)))
    with pytest.raises(SpectralBenchError, match="--trust-code"):
        repeated(config, None)
