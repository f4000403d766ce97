"""Source and target of a protocol show the bands that it names, resampled where a model cannot see them."""

import numpy as np
import pytest
from archives import random_image, write_own_tiles, write_tif

from spectral_tl_bench.config.protocols import load_protocols, read_protocol_file
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.cross_sensor import crossed
from spectral_tl_bench.utils.errors import ProtocolError

PROTOCOL = """
title: From one sensor to another
dataset: tiles
sensor: {{name: both, bands: {{b: 490, g: 560, r: 660, n: 840, o: 600, s: 1600}}}}
classes: [{{code: 10, name: trees, color: "#00aa00"}}, {{code: 20, name: grass, color: "#aaff00"}}]
ignore: [30]
folder: {{tile: name, block: sheet}}
source: {{region: coast, bands: {source}}}
target: {{region: inland, bands: {target}}}
by: region
"""


@pytest.fixture
def root(tmp_path):
    root = write_own_tiles(tmp_path / "tiles")
    for number in range(8):
        write_tif(root / "images" / f"{number:03d}.tif", random_image(6, number, dtype="int16"))
    return root


def opened(root, source, target, how="resampled"):
    path = root.parent / "cross.yaml"
    path.write_text(PROTOCOL.format(source=source, target=target))
    (protocol,) = load_protocols(str(path))
    dataset = open_dataset(protocol.file, root)
    rows = np.flatnonzero(protocol.transfer.target.select(dataset.index)).tolist()
    return crossed(dataset, protocol, rows, how)


def stored(number):
    return random_image(6, number, dtype="int16").astype(float)


def test_each_side_shows_its_bands_in_their_order(root):
    dataset = opened(root, "[r, b]", "[n, g, o]", "wavelengths")
    assert dataset.sensor.wavelengths == (660, 490)
    assert dataset.crossing.seen.wavelengths == (840, 560, 600)
    np.testing.assert_allclose(dataset.read(0)["image"].numpy(), stored(0)[[2, 0]] / 10_000, rtol=1e-6)
    np.testing.assert_allclose(dataset.read(5)["image"].numpy(), stored(5)[[3, 1, 4]] / 10_000, rtol=1e-6)


def test_target_tiles_are_resampled_to_the_source_s_bands(root):
    dataset = opened(root, "[o, g]", "[b, r]")
    assert dataset.crossing.seen is None
    blue, red = stored(6)[[0, 2]] / 10_000
    expected = [blue + (red - blue) * (w - 490) / (660 - 490) for w in (600, 560)]
    np.testing.assert_allclose(dataset.read(6)["image"].numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(
        dataset.read(6, window=(2, 3, 4, 5))["image"].numpy(), np.array(expected)[:, 2:6, 3:8], rtol=1e-5
    )


def test_labels_and_pixels_without_data_are_those_of_either_side(root):
    pixels = random_image(6, 7, dtype="int16")
    pixels[5, :4] = -1
    pixels[0, 8:] = -1
    write_tif(root / "images" / "007.tif", pixels, nodata=-1)
    sample = opened(root, "[o, g]", "[b, r]").read(7)
    assert (sample["image"][:, 8:] == 0).all()
    assert (sample["mask"][8:] == 255).all()
    assert (sample["image"][:, :8] > 0).all()


def test_the_same_bands_are_no_crossing_of_sensors(root):
    dataset = opened(root, "[b, g]", "[b, g]")
    assert not dataset.crossing.differ
    np.testing.assert_allclose(dataset.read(6)["image"].numpy(), stored(6)[:2] / 10_000, rtol=1e-6)


def test_a_protocol_without_bands_leaves_the_dataset_as_it_is():
    (protocol,) = load_protocols("whu_region/s2t")
    dataset = object()
    assert crossed(dataset, protocol, []) is dataset


def test_bands_that_cannot_be_made_are_refused_with_the_way_out(root):
    with pytest.raises(
        ProtocolError, match=r"cross: s of both at 1600 nm cannot be made .* 'bands' of the source .*dofa"
    ):
        opened(root, "[b, s]", "[b, n]")
    assert opened(root, "[b, s]", "[b, n]", "wavelengths").sensor.wavelengths == (490, 1600)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("[x]", "[b]", "has no band 'x'"),
        ("[b]", "['7']", "has the bands 1 to 6"),
        ("[b, b]", "[b]", "name each band once"),
    ],
)
def test_a_selection_that_means_nothing_is_refused(root, source, target, message):
    with pytest.raises(ProtocolError, match=message):
        opened(root, source, target)


def test_bands_at_the_top_and_below_a_side_are_refused(tmp_path):
    path = tmp_path / "cross.yaml"
    path.write_text("bands: [b]\n" + PROTOCOL.format(source="[b]", target="[g]"))
    with pytest.raises(ProtocolError, match="'bands' stands at the top and under source or target"):
        read_protocol_file(path)


def test_bands_are_part_of_a_protocol_s_words(tmp_path):
    digests = set()
    for target in ("[b]", "[g]", "[b, g]"):
        path = tmp_path / "cross.yaml"
        path.write_text(PROTOCOL.format(source="[b]", target=target))
        digests.add(load_protocols(str(path))[0].digest)
    assert len(digests) == 3
