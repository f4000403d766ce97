"""Suites: what they stand for, and how one that is wrong is refused."""

import pytest
import yaml
from tiny_run import TINY

from spectral_tl_bench.methods import all_method_names, build_any_method, method_names
from spectral_tl_bench.sweeps.suite import Suite, find_suite, read_suite, shipped_suites
from spectral_tl_bench.utils.errors import SpectralBenchError

SUITES = shipped_suites()


def suite_of(**changes):
    return Suite.model_validate(
        {"title": "tiny", "methods": ["frozen"], "protocols": ["whu_region/s2t"], "preset": "quick", "train": TINY}
        | changes
    )


@pytest.mark.parametrize("name", SUITES)
def test_every_shipped_suite_asks_for_runs_that_exist(name):
    asked = list(find_suite(name).requests(None))
    assert len(asked) >= 2
    for request in asked:
        build_any_method(request.choices.method, dict(request.choices.method_options))


def test_a_suite_is_the_product_of_its_lists():
    suite = suite_of(methods="all", protocols=["whu_region", "dfc_season"], seeds=[0, 1], weights=["none", "embedded"])
    asked = list(suite.requests(None))
    without_backbone = len(all_method_names()) - len(method_names())
    assert len(asked) == (len(method_names()) * 2 + without_backbone) * (2 + 4) * 2
    assert len({(a.choices.method, a.protocol.name, a.choices.seed, a.where.weights) for a in asked}) == len(asked)


def test_a_backbone_of_a_suite_has_settings_of_its_own():
    own = {"band_tokens": 4, "batch_size": 2}
    suite = suite_of(
        methods=["pixel_forest", "lora"], backbones=["vit_micro", {"name": "spectral_mae_micro", "train": own}]
    )
    forest, plain, spectral = (request.choices for request in suite.requests(None))
    assert forest.backbone == "none"
    assert (plain.backbone, spectral.backbone) == ("vit_micro", "spectral_mae_micro")
    assert (spectral.training.band_tokens, spectral.training.batch_size) == (4, 2)
    assert spectral.training == plain.training.model_copy(update=own)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"title": "t", "methods": ["frozen"]}, "protocols"),
        ({"title": "t", "methods": ["frozen"], "protocols": ["whu_region"], "epochs": 3}, "epochs"),
        ({"title": "t", "methods": "every", "protocols": ["whu_region"]}, "methods"),
        (
            {"title": "t", "methods": "all", "protocols": ["whu_region"], "backbones": [{"train": {}}]},
            "backbones.*name",
        ),
    ],
)
def test_a_suite_that_does_not_follow_the_format_is_refused_by_its_field(tmp_path, content, problem):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpectralBenchError, match=rf"suite\.yaml: {problem}"):
        read_suite(path)


def test_an_unknown_suite_names_the_nearest(tmp_path):
    with pytest.raises(SpectralBenchError, match=r"unknown suite 'every_methods'.*every_method"):
        find_suite("every_methods")
    with pytest.raises(SpectralBenchError, match=r"cannot read suite .*none\.yaml"):
        find_suite(str(tmp_path / "none.yaml"))
