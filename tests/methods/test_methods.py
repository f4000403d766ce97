import copy
import dataclasses

import pytest
import torch
from small_vits import disturb, small_rotary_vit, small_vit

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.methods import Method, build_method, method_class, method_names
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import short_name, source_digest
from spectral_tl_bench.utils.tensors import restore, trained_state

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


def adapted(name, sensor=SENTINEL2, seed=0):
    torch.manual_seed(seed)
    backbone = build_backbone("vit_micro", sensor, "embedded")
    method = build_method(name)
    method.apply(backbone)
    for stage in method.stages:
        method.begin_stage(backbone, stage)
    return backbone, method


def step(backbone, method, images):
    """One optimiser step on a loss over the features."""
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    loss = sum(f.square().mean() for f in backbone(images))
    extra = method.extra_loss(backbone)
    (loss if extra is None else loss + extra).backward()
    optimizer.step()


@pytest.mark.parametrize("name", method_names())
class TestEveryMethod:
    def test_frozen_weights_stay_and_something_trains(self, name):
        backbone, method = adapted(name)
        frozen = {n: p.clone() for n, p in backbone.named_parameters() if not p.requires_grad}
        trained = {n: p.clone() for n, p in backbone.named_parameters() if p.requires_grad}
        step(backbone, method, torch.randn(2, 13, 32, 32))
        now = dict(backbone.named_parameters())
        assert all(torch.equal(now[n], p) for n, p in frozen.items())
        assert any(not torch.equal(now[n], p) for n, p in trained.items())

    @pytest.mark.parametrize("sensor", [OHS, SENTINEL2, MTS12], ids=lambda s: s.name)
    def test_features_have_the_grid_of_the_image(self, name, sensor):
        backbone, _ = adapted(name, sensor)
        features = backbone.eval()(torch.randn(1, len(sensor.bands), 40, 64))
        assert [tuple(f.shape) for f in features] == [(1, 192, 5, 8)] * 4

    def test_own_weights_restore_the_trained_outputs(self, name):
        images = torch.randn(2, 13, 64, 64)
        backbone, method = adapted(name)
        step(backbone, method, images)
        saved = trained_state(backbone, backbone.pretrained_parameters)
        fresh, _ = adapted(name, seed=1)
        restore(fresh, saved, fresh.pretrained_parameters, "the test")
        for a, b in zip(backbone.eval()(images), fresh.eval()(images), strict=True):
            assert torch.equal(a, b)

    def test_own_weights_leave_the_frozen_backbone_out(self, name):
        backbone, _ = adapted(name)
        frozen = {
            n for n, p in backbone.named_parameters() if id(p) in backbone.pretrained_parameters and not p.requires_grad
        }
        assert frozen or name == "full"
        assert not frozen & set(trained_state(backbone, backbone.pretrained_parameters))

    @pytest.mark.parametrize(
        "make", [lambda: small_vit(0), lambda: small_vit(5), small_rotary_vit], ids=["none", "registers", "rotary"]
    )
    def test_any_prefix_tokens_and_positions_will_do(self, name, make):
        torch.manual_seed(0)
        backbone = make()
        method = build_method(name)
        method.apply(backbone)
        for stage in method.stages:
            method.begin_stage(backbone, stage)
        disturb(backbone)
        features = backbone.eval()(torch.randn(1, 13, 24, 32))
        assert [tuple(f.shape) for f in features] == [(1, 32, 3, 4)] * 4
        assert all(f.isfinite().all() for f in features)

    def test_dropped_patches_keep_their_places(self, name):
        torch.manual_seed(0)
        backbone = small_vit(prefix=1)
        build_method(name).apply(backbone)
        disturb(backbone)
        tokens = backbone.eval().embed(torch.randn(2, 13, 24, 32))
        order = torch.stack([torch.randperm(12), torch.randperm(12)])
        shuffled = backbone.encode(tokens.keep(order))
        for some, all_in_place in zip(shuffled, backbone.encode(tokens), strict=True):
            expected = all_in_place.gather(1, order.unsqueeze(-1).expand(-1, -1, 32))
            torch.testing.assert_close(some, expected, rtol=1e-4, atol=1e-4)
        assert [tuple(f.shape) for f in backbone.encode(tokens.keep(order[:, :5]))] == [(2, 5, 32)] * 4

    def test_a_copy_works_like_the_original(self, name):
        backbone, _ = adapted(name)
        images = torch.randn(1, 13, 32, 32)
        expected = backbone.eval()(images)
        twin = copy.deepcopy(backbone)
        backbone(torch.randn(1, 13, 40, 24))
        for a, b in zip(twin(images), expected, strict=True):
            assert torch.equal(a, b)

    def test_options_are_plain_values_that_build_it_again(self, name):
        method = build_method(name)
        assert build_method(name, method.options()) == method

    def test_docstring_says_where_it_comes_from_or_what_it_does(self, name):
        assert len((method_class(name).__doc__ or "").split()) > 5


NOT_THE_PRETRAINED_FUNCTION = {
    "vpt": "prompts take part in attention",
    "ssf": "scales and shifts are drawn around 1 and 0",
    "rein": "starts with a small scale, not with 0",
    "spectralx": "puts a new tokenizer in place of the patch embedding",
}


@pytest.mark.parametrize("name", sorted(set(method_names()) - set(NOT_THE_PRETRAINED_FUNCTION)))
def test_starts_as_the_frozen_backbone(name):
    images = torch.randn(2, 13, 32, 32)
    torch.manual_seed(0)
    plain = build_backbone("vit_micro", SENTINEL2, "embedded").eval()
    backbone, _ = adapted(name)
    for a, b in zip(plain(images), backbone.eval()(images), strict=True):
        # The decomposition of the weights is exact up to rounding only.
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 if name == "soma" else 0)


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
    backbone, method = adapted(own_method)
    trainable = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert trainable
    assert all(n.endswith("bias") for n in trainable)
    step(backbone, method, torch.randn(2, 13, 32, 32))


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
