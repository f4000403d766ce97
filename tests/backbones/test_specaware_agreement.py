"""SpecAware against its equations written out a second time, with a file of the released names."""

import published_specaware as published
import pytest
import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.specaware import SpecAware, SpecAwareBackbone, convert
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.pretraining.decoders import HyperLinear
from spectral_tl_bench.pretraining.tasks import SpecAwarePretraining
from spectral_tl_bench.sensors import Band, Sensor

WAVELENGTHS, WIDTHS = (400.0, 1200.0, 2500.0), (5.0, 9.5, 180.0)
AVIRIS = Sensor(
    name="av3",
    level="L1",
    bands=tuple(
        Band(name=str(i), wavelength=w, bandwidth=f) for i, (w, f) in enumerate(zip(WAVELENGTHS, WIDTHS, strict=True))
    ),
    rgb=("0", "1", "2"),
    ground_sampling_distance=3.5,
)
OTHER = AVIRIS.model_copy(update={"name": "a sensor of another maker", "level": "L2"})
VECTORS = {
    f"sentences.{key}": torch.randn(384, generator=torch.Generator().manual_seed(number))
    for number, key in enumerate(("av3", "L1", "L2", "others"))
}


@pytest.fixture(scope="module")
def released():
    return published.random_weights(published.shapes(64, 4, 32, 2))


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def backbone(released):
    model = SpecAware(64, 4, 4)
    state = convert(released | VECTORS, AVIRIS)
    given = {name: tensor for name, tensor in state.items() if not name.startswith(("decoder", "mask_token"))}
    model.load_state_dict(given)
    return SpecAwareBackbone(model, AVIRIS).eval()


def e_meta(released, name="av3", level="L1"):
    return published.meta(
        torch.tensor(WAVELENGTHS),
        torch.tensor(WIDTHS),
        VECTORS[f"sentences.{name}"],
        VECTORS[f"sentences.{level}"],
        published.part(released, "patch_embed"),
    )


def difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def test_attributes_tokens_and_features_are_those_of_the_equations(backbone, released, images, fidelity):
    attributes = backbone.tokenizer.attributes()
    embedding = published.part(released, "patch_embed")
    tokens = published.tokens(images, e_meta(released), embedding)
    after = published.encode(tokens + published.positions(4, 3, 64, 3.5), released, 4)
    features = backbone(images)
    worst = max(
        difference(attributes, e_meta(released)),
        difference(backbone.tokenizer(images)[0], tokens),
        *(difference(ours.flatten(2).transpose(1, 2), x[:, 1:]) for ours, x in zip(features, after, strict=True)),
    )
    fidelity("specaware_*", "attributes of bands, tokens, features of all taps", worst, 1e-5)


@torch.no_grad()
def test_every_other_sensor_is_others_to_a_released_file(backbone, released):
    with backbone.seeing(OTHER):
        assert difference(backbone.tokenizer.attributes(), e_meta(released, "others", "L2")) < 1e-5


@torch.no_grad()
def test_the_decoder_and_the_loss_are_those_of_the_equations(backbone, released, images, fidelity):
    training = override(
        preset("quick"),
        {"reconstruction_decoder_width": 32, "reconstruction_decoder_depth": 2, "reconstruction_decoder_heads": 2},
    )
    task = SpecAwarePretraining(backbone, [AVIRIS], training).eval()
    task.decoder.load_state_dict(decoder_names(released))
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    hidden[0, [1, 2, 5, 7, 8, 9]] = hidden[1, [0, 3, 4, 6, 10, 11]] = True
    # Hidden patches are blanked here and not in the released code, so both are given an image that is blank there.
    given = images.masked_fill(hidden.view(2, 1, 4, 3).repeat_interleave(8, 2).repeat_interleave(8, 3), 0.0)
    attributes = e_meta(released)
    tokens = published.tokens(given, attributes, published.part(released, "patch_embed"))
    places = (~hidden).nonzero()[:, 1].view(2, -1)
    positioned = tokens + published.positions(4, 3, 64, 3.5)
    kept = positioned.gather(1, places.unsqueeze(-1).expand(-1, -1, 64))
    encoded = published.encode(kept, released, 4)[-1]
    restored = published.decode(encoded, places, (4, 3), 3.5, attributes, released, 2)
    ours = task.restore(images, hidden)
    loss = published.loss(restored, images, hidden)
    worst = max(difference(ours.unflatten(-1, (3, -1)), restored), difference(task.error(images, hidden, hidden), loss))
    fidelity("specaware_*", "restored pixels and the loss of pretraining", worst, 1e-5)


def decoder_names(released):
    """The decoder's parameters by this package's names."""
    replaced = {
        "decoder_embed.": "embed.",
        "decoder_blocks.": "blocks.",
        "decoder_norm.": "norm.",
        "decoder_pred.x_attention_pool.query_proj": "pixels.query",
        "decoder_pred.x_attention_pool.key_proj": "pixels.key",
        "decoder_pred.x_attention_pool.value_proj": "pixels.value",
        "decoder_pred.x_feature_extractor.": "pixels.content.",
        "decoder_pred.matrix_generator.u_generator.": "pixels.left.",
        "decoder_pred.matrix_generator.v_generator.": "pixels.right.",
        "decoder_pred.matrix_generator.bias_generator.": "pixels.bias.",
        "decoder_pred.feature_fusion.modal1_proj.": "pixels.fuse.first.",
        "decoder_pred.feature_fusion.modal2_proj.": "pixels.fuse.second.",
        "decoder_pred.feature_fusion.fusion.": "pixels.fuse.joint.",
        "mask_token": "mask_token",
    }
    out = {}
    for name, tensor in released.items():
        for theirs, ours in replaced.items():
            if name.startswith(theirs):
                out[ours + name.removeprefix(theirs)] = tensor
    return out


def test_the_head_has_the_released_number_of_parameters():
    assert sum(p.numel() for p in HyperLinear(512, 8).parameters()) == 2_934_912
    assert sum(torch.Size(s).numel() for n, s in published.shapes(64, 1, 512, 1).items() if "_pred" in n) == 2_934_912


def test_a_released_base_file_loads_whole(tmp_path):
    state = {name: torch.zeros(shape) for name, shape in published.shapes(768, 12, 512, 8).items()}
    torch.save({"model": state, "epoch": 399}, tmp_path / "SpecAware_Base_model.pth")
    backbone = build_backbone("specaware_b", AVIRIS, str(tmp_path / "SpecAware_Base_model.pth"))
    assert not backbone.drawn
