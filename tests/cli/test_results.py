"""leaderboard, show and compare as they are typed."""

import pytest
from run_records import spec, write

from spectral_tl_bench.cli.main import main

FROZEN = {"method": "frozen", "method_options": {}}


@pytest.fixture
def runs(tmp_path):
    for seed in (0, 1, 2):
        write(tmp_path / "runs", spec(seed=seed), accuracy=0.7)
        write(tmp_path / "runs", spec(seed=seed, **FROZEN), accuracy=0.6)
    return tmp_path / "runs"


@pytest.fixture
def bench(capsys, monkeypatch):
    """Run a command; returns its exit status and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def do(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return done.value.code or 0, printed.out + printed.err

    return do


def test_one_leaderboard_is_made_and_checked(runs, bench, tmp_path):
    places = ("--runs", runs, "--out", tmp_path / "out")
    status, text = bench("leaderboard", *places)
    assert status == 0
    assert "6 runs, 1 leaderboard\n" in text
    status, text = bench("leaderboard", "--check", *places)
    assert status == 0
    assert "boards and records agree" in text


def test_boards_and_page_are_made_in_one_go_and_a_check_writes_neither(runs, bench, tmp_path):
    places = ("--runs", runs, "--out", tmp_path / "out", "--site", tmp_path / "site")
    status, text = bench("leaderboard", "--check", *places)
    assert status == 2
    assert "leave --site out" in text
    assert not (tmp_path / "out").exists()
    status, text = bench("leaderboard", *places)
    assert status == 0
    assert f"written: {tmp_path / 'site' / 'index.html'}" in text
    assert (tmp_path / "out" / "whu_region.csv").is_file()
    assert (tmp_path / "site" / "board-whu_region.html").is_file()


def test_a_board_that_disagrees_with_the_records_fails_the_check(runs, bench, tmp_path):
    places = ("--runs", runs, "--out", tmp_path / "out")
    bench("leaderboard", *places)
    (tmp_path / "out" / "whu_region.csv").write_text("made up\n")
    status, text = bench("leaderboard", "--check", *places)
    assert status == 1
    assert "whu_region.csv differs" in text
    assert "disagree in 1 place;" in text


def test_a_comparator_can_be_named_and_must_have_run(runs, bench, tmp_path):
    places = ("--runs", runs, "--out", tmp_path / "out")
    assert bench("leaderboard", *places, "--against", "lora")[0] == 0
    assert "vs_lora_p_holm" in (tmp_path / "out" / "whu_region.csv").read_text()
    status, text = bench("leaderboard", *places, "--against", "norm")
    assert status == 2
    assert "--against norm: no run of it" in text


def test_a_run_is_shown_by_its_digest_or_folder(runs, bench):
    digest = spec().digest
    for name in (digest, runs / spec().folder):
        status, text = bench("show", name, "--runs", runs)
        assert status == 0
        assert "lora on whu_region/s2t" in text
        assert "producer's" in text
        assert "these tiles only: mIoU" in text
    status, text = bench("show", "lora", "--runs", runs)
    assert status == 2
    assert "3 runs below" in text
    assert bench("show", "nothing", "--runs", runs)[0] == 2


def test_two_methods_are_compared(runs, bench):
    status, text = bench("compare", "lora", "frozen", "--runs", runs)
    assert status == 0
    assert "lora minus frozen" in text
    assert "whu_region/s2t" in text
    status, text = bench("compare", "lora", "nothing", "--runs", runs)
    assert status == 2
    assert len(text.strip().splitlines()) == 1


def test_a_record_cannot_move_the_cursor(bench, tmp_path):
    evil = "a\x1b[2J\x1b]0;x\x07[red]b"
    write(tmp_path / "runs", spec(method=evil), subdomains=(evil,))
    out = ("--out", tmp_path / "out")
    for command in (("show", spec(method=evil).digest), ("compare", evil, "other"), ("leaderboard", *out)):
        _, text = bench(*command, "--runs", tmp_path / "runs")
        assert "\x1b[2J" not in text
        assert "\x07" not in text
