import pytest
import run_records

from spectral_tl_bench.benchmarks.learning_rates import chosen, tries
from spectral_tl_bench.config.presets import PRESETS
from spectral_tl_bench.sweeps.suite import find_suite


def test_the_rate_with_the_best_held_out_source_is_chosen_whatever_the_targets_say(tmp_path):
    levels = {"lora": {5e-4: (0.6, 0.9), 8e-3: (0.9, 0.6)}, "frozen": {5e-4: (0.6, 0.3), 8e-3: (0.3, 0.8)}}
    for method, rates in levels.items():
        for rate, (accuracy, source) in rates.items():
            training = PRESETS["quick"].model_copy(update={"learning_rate": rate})
            spec = run_records.spec(method=method, training=training)
            run_records.write(tmp_path, spec, accuracy=accuracy, source=source)
    table = chosen(tries(tmp_path))
    assert table["chosen"].to_dict() == {"frozen": 8e-3, "lora": 5e-4}
    assert table["factor"].to_dict() == pytest.approx({"frozen": 4.0, "lora": 0.25})


def test_the_suite_gives_every_method_the_same_three_rates():
    requests = list(find_suite("learning_rates").requests(None))
    rates = {}
    for request in requests:
        if request.choices.backbone != "none":
            rates.setdefault(request.choices.method, []).append(request.choices.training.learning_rate)
    assert "spectralx" in rates
    assert {tuple(values) for values in rates.values()} == {(5e-4, 2e-3, 8e-3)}
    without_backbone = [r.choices.method for r in requests if r.choices.backbone == "none"]
    assert len(without_backbone) == len(set(without_backbone))
