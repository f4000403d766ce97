"""The published ablation in docs/spectralx.md: its options build what they say, with the published counts."""

import re
from pathlib import Path

import pytest

from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.report.published import published
from spectral_tl_bench.runs.parameter_counts import account
from spectral_tl_bench.sensors import OHS

PAGE = Path(__file__).parents[2] / "docs" / "spectralx.md"
ROWS = re.findall(r"^\| (HyperT.*?) \| (yes|no) \| `(.*?)` \| ([\d.]+) \|$", PAGE.read_text(), flags=re.MULTILINE)
FULL = ("HyperT + AoMoA + Are", "yes")


def published_name(parts, stage1):
    """How the row is called in the file of published figures."""
    if (parts, stage1) == FULL:
        return "SpectralX"
    return f"SpectralX ({parts.replace(' ', '')}{'; no stage 1' if stage1 == 'no' else ''})"


def test_the_page_has_every_row_of_the_published_table():
    table = published().query("table == 'IV' and adaptation == 'peft'")
    assert {published_name(parts, stage1) for parts, stage1, _, _ in ROWS} == set(table["method"])
    assert len(ROWS) == 6


@pytest.mark.parametrize(("parts", "stage1", "options", "millions"), ROWS, ids=lambda value: str(value)[:40])
def test_each_row_can_be_set_and_trains_the_published_number(parts, stage1, options, millions):
    given = dict(pair.split("=") for pair in re.findall(r"--set (\S+)", options))
    method = build_method("spectralx", given)
    assert method.variant == "reference"
    assert ("reconstruction" in method.stages) == (stage1 == "yes")
    assert (method.hyper_tokenizer, method.aomoa, method.are_adapter) == (True, "AoMoA" in parts, "Are" in parts)
    counts = account("row", method, "scalemae_l", OHS, preset("reference"), 22)
    # Published counts include the ViT's last norm, which is no part of a backbone here.
    trainable = counts.trainable.without_decoder + 2 * 1024
    # 8.139 M is printed as 8.2 there.
    assert trainable / 1e6 == pytest.approx(float(millions), abs=0.07)
    row = published().query("table == 'IV' and method == @published_name(@parts, @stage1)")
    assert set(row["trainable_params_m"]) == {float(millions)}
