import dataclasses

import pytest
import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.methods import Method, build_method, method_class, method_names
from spectral_tl_bench.sensors import OHS, SENTINEL2
from spectral_tl_bench.testing import METHOD_CHECKS
from spectral_tl_bench.testing.methods import adapted, optimiser_step
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import short_name, source_digest

OWN_METHOD = '''\
from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method


@dataclass
class BiasTuning(Method):
    """Only biases train (Ben Zaken et al., 2022)."""

    scale: float = 1.0

    def adapt(self, backbone: Backbone) -> None:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad = name.endswith("bias")
'''


@pytest.fixture
def own_method(tmp_path):
    path = tmp_path / "bias.py"
    path.write_text(OWN_METHOD)
    return f"{path}:BiasTuning"


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", method_names())
def test_every_method_keeps_every_contract(name, check):
    check(method_class(name))


def test_only_full_fine_tuning_leaves_nothing_frozen():
    for name in method_names():
        backbone, _ = adapted(method_class(name))
        pretrained = [p for p in backbone.parameters() if id(p) in backbone.pretrained_parameters]
        assert any(not p.requires_grad for p in pretrained) or name == "full"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("frozen", 13 * 256 * 1024 + 1024),
        ("lora", 24 * 16 * (4096 + 2048 + 5120 + 5120)),
        ("adapter", 24 * 2 * (2 * 1024 * 64 + 64 + 1024)),
    ],
)
def test_trainable_parameters_of_a_large_vit(name, parameters):
    with torch.device("meta"):
        backbone = build_backbone("vit_l_mae", SENTINEL2)
        build_method(name).apply(backbone)
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize(
    ("name", "sensor", "millions"),
    [
        ("frozen", SENTINEL2, "3.41"),
        ("bitfit", SENTINEL2, "0.27"),
        ("norm", SENTINEL2, "0.10"),
        ("lora", SENTINEL2, "6.29"),
        ("dora", SENTINEL2, "6.51"),
        ("ia3", SENTINEL2, "0.27"),
        ("slr", OHS, "7.28"),
        ("slr", SENTINEL2, "7.27"),
        ("adapter", SENTINEL2, "6.3"),
        ("adaptformer", SENTINEL2, "3.17"),
        ("convpass", SENTINEL2, "0.86"),
        ("vpt", SENTINEL2, "1.23"),
        ("ssf", SENTINEL2, "0.54"),
        ("rein", SENTINEL2, "2.5"),
        ("soma", SENTINEL2, "4.9"),
        ("earth_adapter", SENTINEL2, "4.0"),
    ],
)
def test_trainable_parameters_of_a_large_vit_are_the_published_ones(name, sensor, millions):
    with torch.device("meta"):
        backbone = build_backbone("vit_l_mae", sensor)
        build_method(name).apply(backbone)
    trainable = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert f"{trainable / 1e6:.{len(millions.partition('.')[2])}f}" == millions


def test_a_method_of_twenty_lines_in_a_file_works(own_method):
    assert len(OWN_METHOD.splitlines()) <= 20
    backbone, method = adapted(method_class(own_method))
    trainable = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert trainable
    assert all(n.endswith("bias") for n in trainable)
    optimiser_step(backbone, method, torch.randn(2, 13, 32, 32))


def test_a_method_file_is_known_by_its_class_and_content(own_method, tmp_path):
    assert short_name(own_method) == "BiasTuning"
    before = source_digest(own_method)
    (tmp_path / "bias.py").write_text(OWN_METHOD + "\n# changed\n")
    assert source_digest(own_method) != before
    assert source_digest("lora") is None


def test_text_options_become_their_type(own_method):
    assert build_method("lora", {"rank": "4"}).options()["rank"] == 4
    assert build_method(own_method, {"scale": "0.5"}).options() == {"scale": 0.5}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lorra", {}, "did you mean 'lora'"),
        ("lora", {"rnak": "4"}, "did you mean 'rank'"),
        ("lora", {"rank": "four"}, "rank"),
        ("missing.py:Method", {}, "no method file missing.py"),
    ],
)
def test_wrong_names_and_values_are_refused_with_what_to_do(name, options, message):
    with pytest.raises(SpectralBenchError, match=message) as caught:
        build_method(name, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("x = 1", "defines no Mine"),
        ("class Mine: pass", "subclass"),
        (
            "from spectral_tl_bench.methods import Method\n\nclass Mine(Method):\n    def adapt(self, backbone): pass",
            "@dataclass",
        ),
    ],
)
def test_a_method_file_that_cannot_be_used_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(SpectralBenchError, match=message):
        build_method(f"{path}:Mine")


def test_unknown_method_error_is_a_usage_error():
    with pytest.raises(UnknownNameError) as caught:
        method_class("no_such_method")
    assert caught.value.exit_status == 2


def test_apply_freezes_before_it_adapts():
    seen = []

    @dataclasses.dataclass
    class Look(Method):
        """Looks at what arrives and trains the tokenizer."""

        def adapt(self, backbone):
            seen.extend(p.requires_grad for p in backbone.parameters())

    Look().apply(build_backbone("vit_micro", SENTINEL2))
    assert seen
    assert not any(seen)
