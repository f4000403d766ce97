"""What a third party calls in his own tests: good classes pass, and each broken contract is named."""

import dataclasses
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import third_party
import torch
from small_models import small_entry
from torch import nn

from spectral_tl_bench.methods import Method, PixelModel, method_class
from spectral_tl_bench.simulation import simulate_archive
from spectral_tl_bench.testing import ContractError, check_backbone, check_dataset, check_method
from spectral_tl_bench.utils.registry import METHODS, load_file


def file_of(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.fixture(autouse=True)
def _modules_are_forgotten(tmp_path):
    yield
    for name in [n for n, m in sys.modules.items() if (getattr(m, "__file__", None) or "").startswith(str(tmp_path))]:
        del sys.modules[name]


def test_a_method_of_ten_lines_passes(tmp_path):
    text = third_party.METHOD.replace("Only biases train.", "Only the biases of the backbone train, nothing else.")
    check_method(load_file(file_of(tmp_path, "bias.py", text), "BiasTuning", "method"))


@pytest.mark.parametrize("name", [n for n in METHODS.names() if issubclass(method_class(n), PixelModel)])
def test_every_model_without_a_backbone_passes(name):
    check_method(method_class(name))


class NoDataclass(Method):
    """A method that forgets the decorator above it."""

    def adapt(self, backbone):
        backbone.tokenizer.requires_grad_(True)


@dataclass
class Tokenizer(Method):
    """The tokenizer trains and nothing else does so."""

    def adapt(self, backbone):
        backbone.tokenizer.requires_grad_(True)


@dataclass
class Undocumented(Tokenizer):
    pass


@dataclass
class WithoutDefault(Tokenizer):
    """The tokenizer trains, with an option of no default."""

    rank: int


@dataclass
class NotJson(Tokenizer):
    """The tokenizer trains, with an option of an odd type."""

    values: set = field(default_factory=lambda: {1})


@dataclass
class TrainsNothing(Tokenizer):
    """A probe that does not say that it is one."""

    def adapt(self, backbone):
        pass


class Drift(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        if self.training:
            with torch.no_grad():
                self.inner.norm1.weight.add_(0.1)
        return self.inner(*args, **kwargs)


@dataclass
class ChangesFrozenWeights(Tokenizer):
    """The tokenizer trains, and a norm moves without a gradient."""

    def adapt(self, backbone):
        backbone.tokenizer.requires_grad_(True)
        backbone.blocks[0] = Drift(backbone.blocks[0])


class Plus(nn.Module):
    def __init__(self, inner, added):
        super().__init__()
        self.inner = inner
        self.added = nn.Parameter(added, requires_grad=True)

    def forward(self, x, *args, **kwargs):
        return self.inner(x, *args, **kwargs) + self.added


@dataclass
class StartsElsewhere(Method):
    """A vector is added to what each first block gives."""

    def adapt(self, backbone):
        backbone.blocks[0] = Plus(backbone.blocks[0], torch.ones(backbone.width))


@dataclass
class Unseeded(Method):
    """A vector of numbers from another generator is added."""

    def adapt(self, backbone):
        added = torch.from_numpy(np.random.default_rng().normal(size=backbone.width).astype("float32"))
        backbone.blocks[0] = Plus(backbone.blocks[0], added)


@dataclass
class ForOneGrid(Method):
    """A vector for each token of an image of 40 x 64 px."""

    def adapt(self, backbone):
        backbone.blocks[0] = Plus(backbone.blocks[0], torch.zeros(1, 41, backbone.width))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (int, "no subclass of Method or PixelModel"),
        (NoDataclass, "lacks the @dataclass decorator"),
        (Undocumented, "docstring of Undocumented does not say what it does"),
        (WithoutDefault, "has an option without a default"),
        (NotJson, "cannot be recorded as JSON"),
        (TrainsNothing, "lets nothing train"),
        (ChangesFrozenWeights, r"changes frozen weights in training: blocks\.0\.inner\.norm1\.weight"),
        (StartsElsewhere, "changes the backbone's features before it trains"),
        (Unseeded, r"draws blocks\.0\.added from a generator without a seed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_broken_contract_of_a_method_is_named(cls, message):
    with pytest.raises(ContractError, match=message):
        check_method(cls)


def test_a_method_for_one_image_size_fails():
    with pytest.raises(RuntimeError, match="size of tensor"):
        check_method(ForOneGrid)


@dataclass
class Reasoned(StartsElsewhere):
    """A vector is added to what each first block gives."""

    changes_start = "the vector of ones is the point"


def test_a_reason_lets_a_method_start_elsewhere():
    check_method(Reasoned)


@dataclass
class Fickle(PixelModel):
    """A classifier that ignores its seed and the spectra alike."""

    def classifier(self, seed):
        class Random:
            def fit(self, spectra, labels):
                self.classes = np.unique(labels)

            def predict(self, spectra):
                return np.random.default_rng().choice(self.classes, len(spectra))

        return Random()


def test_a_classifier_that_ignores_its_seed_is_named():
    with pytest.raises(ContractError, match="predicts otherwise when it is trained again with the same seed"):
        check_method(Fickle)


def test_a_backbone_of_a_file_passes(tmp_path):
    check_backbone(load_file(file_of(tmp_path, "tiny.py", third_party.BACKBONE), "TINY", "backbone"))


class Blind(nn.Module):
    """A tokenizer that knows the first band alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(torch.cat([images[:, :1], torch.zeros_like(images[:, 1:])], dim=1))


def without_bands(model, sensor):
    backbone = small_entry("vit_b_mae").wrap(model, sensor)
    backbone.tokenizer.projection = Blind(backbone.tokenizer.projection)
    return backbone


def without_positions(model, sensor):
    model.pos_embed.data.zero_()
    return small_entry("vit_b_mae").wrap(model, sensor)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [(without_bands, "do not depend on the bands B2"), (without_positions, "do not depend on where a patch lies")],
)
def test_each_broken_contract_of_a_backbone_is_named(wrap, message):
    with pytest.raises(ContractError, match=message):
        check_backbone(dataclasses.replace(small_entry("vit_b_mae"), wrap=wrap))


def test_what_is_no_entry_is_named():
    with pytest.raises(ContractError, match="is no BackboneEntry"):
        check_backbone("vit_micro")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return simulate_archive("mts12", tmp_path_factory.mktemp("mts12") / "archive", tiles=0.1, tile_size=32)


def broken(**changes):
    from spectral_tl_bench.datasets.archives.mts12 import MTS12

    return type("Broken", (MTS12,), changes)


def test_a_dataset_of_the_package_passes(archive):
    check_dataset(broken(), archive)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": ("train",)}, "of splits that `splits` does not name: test, val"),
        ({"to_reflectance": lambda self, stored: stored.double()}, r"images of Broken are torch\.float64"),
        ({"to_reflectance": lambda self, stored: stored / torch.tensor(0.0)}, "has NaN or infinity"),
        ({"read_label": lambda self, path, window=None: np.ones((16, 16), int)}, None),
    ],
)
def test_each_broken_contract_of_a_dataset_is_named(archive, changes, message):
    with pytest.raises(ContractError if message else Exception, match=message):
        check_dataset(broken(**changes), archive)


def test_a_dataset_that_is_none_is_named(archive):
    with pytest.raises(ContractError, match="no subclass of"):
        check_dataset(dict, archive)
