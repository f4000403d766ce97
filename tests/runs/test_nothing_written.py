"""A run that cannot begin leaves nothing behind and says why in one line."""

import pytest
from tiny_run import TINIEST

from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.utils.errors import SpectralBenchError

PLUGINS = {
    "number.py": "A = 3\n",
    "wrong.py": "def A(*arguments): return 1\n",
    "needs.py": "def A(one): return one\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "training", "message"),
    [
        ("notes.txt", {}, "notes"),
        ("none", {"image_size": 7}, "multiples? of"),
        ("none", {"loss": "number.py:A"}, "loss number.py:A is no function or class"),
        ("none", {"loss": "wrong.py:A"}, "loss wrong.py:A returns a int"),
        ("none", {"loss": "needs.py:A"}, "loss needs.py:A fails on logits and mask: TypeError"),
        ("none", {"decoder": "needs.py:A"}, "decoder needs.py:A cannot be made: TypeError"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    whuohs_root, two_cities, tmp_path, monkeypatch, weights, training, message
):
    monkeypatch.chdir(tmp_path)
    for name, text in {**PLUGINS, "notes.txt": "no weights\n"}.items():
        (tmp_path / name).write_text(text)
    out = tmp_path / "runs"

    def run():
        settings = {"upsample": 1} | TINIEST | training
        where = {"root": whuohs_root, "preset_name": "quick", "weights": weights}
        (request,) = requests("frozen", two_cities, training=settings, **where)
        execute(plan(request), out)

    with pytest.raises(SpectralBenchError, match=message):
        run()
    assert not out.exists() or not list(out.iterdir())
