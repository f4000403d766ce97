"""Cells are shown, not carried out."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from spectral_tl_bench.report.formatting import as_text, count, plain, terminal, to_csv, to_markdown, to_text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_or_heading_of_a_csv_starts_a_formula(start):
    text = to_csv(pd.DataFrame({f"{start}a": [f"{start}1+1", "plain"], "number": [-1.5, 2.0]})).decode()
    read = pd.read_csv(io.StringIO(text), dtype=str)
    assert read.columns[0].startswith("'")
    assert read.iloc[0, 0].startswith("'")
    assert read.iloc[1, 0] == "plain"
    assert read["number"].tolist() == ["-1.5", "2.0"]


def test_two_columns_of_one_name_are_kept_apart():
    frame = pd.DataFrame([["x", "=y"]], columns=["IoU a", "IoU a"])
    assert to_csv(frame).decode() == "IoU a,IoU a\nx,'=y\n"


def test_markdown_is_text():
    assert to_text("a|b\n<i>*x*</i> `c` [d](e)") == "a\\|b &lt;i&gt;\\*x\\*&lt;/i&gt; \\`c\\` \\[d\\](e)"
    assert to_text("whu_region/s2t") == "whu_region/s2t"
    assert to_markdown(pd.DataFrame({"a|b": ["x|y"]})).splitlines() == ["| a\\|b |", "| --- |", "| x\\|y |"]


def test_nothing_moves_the_cursor_or_turns_the_line_around():
    assert plain("a\x1b[2Jb\u202ec\r\nd\x07") == "a[2Jbc  d"


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", "a\\", "[link=http://x]y[/link]", ":smile:x"])
def test_the_terminal_shows_what_is_there(text):
    console = Console(file=io.StringIO(), width=80, emoji=False)
    console.print(terminal(text), end="")
    assert console.file.getvalue().strip() == text


def test_what_is_undefined_is_a_dash():
    assert [as_text(value) for value in (None, pd.NA, float("nan"), np.float64("nan"))] == ["-"] * 4
    assert as_text(np.float64(1.005)) == "1.00"


def test_one_is_singular():
    assert [count(n, "leaderboard") for n in (0, 1, 2)] == ["0 leaderboards", "1 leaderboard", "2 leaderboards"]
