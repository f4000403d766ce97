import re

import pytest
from run_records import spec, write

from spectral_tl_bench.cli.main import main


def test_report_writes_a_page_and_says_where(tmp_path, capsys):
    write(tmp_path / "runs")
    with pytest.raises(SystemExit) as stopped:
        main(["report", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "site")])
    assert not stopped.value.code
    said = " ".join(capsys.readouterr().out.split())
    assert re.match(r"1 run, 1 board, 1 page of runs written: \S*index.html$", said)
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_run_is_named_by_its_digest(tmp_path, capsys):
    for seed in (0, 1):
        write(tmp_path / "runs", spec(seed=seed))
    digest = spec(seed=1).digest
    with pytest.raises(SystemExit):
        main(["report", digest, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "site")])
    assert "2 runs, 1 board, 1 page of runs" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in (tmp_path / "site").glob("run-*.html")] == [f"run-{digest}.html"]


def test_no_runs_is_one_line_and_status_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", "--runs", str(tmp_path / "none"), "--out", str(tmp_path / "site")])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
