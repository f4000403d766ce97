import re
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
import yaml

from spectral_tl_bench.config.domains import Domain
from spectral_tl_bench.config.protocols import load_protocols, read_protocol_file, shipped_protocols
from spectral_tl_bench.utils.errors import ProtocolError, UnknownNameError

OWN = {
    "title": "Low to high",
    "dataset": "tiles",
    "sensor": {"name": "hls", "bands": {"blue": 490, "green": 560, "red": 660}, "rgb": ["red", "green", "blue"]},
    "classes": [{"code": 10, "name": "trees", "color": "#00aa00"}],
    "ignore": "rest",
    "source": {"domain": "lowland"},
    "target": {"domain": ["midland", "highland"]},
    "by": "domain",
}


def write(folder, content, name="my-tiles.yaml"):
    path = Path(folder) / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


SIMULATED_ALONE = ("cross_sensor",)


def test_eight_transfers_and_three_in_domain_references_are_shipped():
    names = [name for name, protocol in shipped_protocols().items() if protocol.group not in SIMULATED_ALONE]
    assert len(names) == 11
    assert sum("/" in name for name in names) == 8
    assert sorted(name for name in names if "/" not in name) == ["dfc_indomain", "mts12_indomain", "whu_indomain"]


@pytest.mark.parametrize("protocol", shipped_protocols().values(), ids=lambda p: p.name)
def test_every_shipped_protocol_has_a_title_published_numbers_and_two_sides(protocol):
    assert protocol.title
    assert (protocol.transfer.tiles is None) == (protocol.group in SIMULATED_ALONE)
    assert min(protocol.transfer.tiles or (1, 1)) > 0
    assert protocol.transfer.source != protocol.transfer.target


@pytest.mark.parametrize("group", ["whu_region", "dfc_season", "mts12_region"])
def test_a_transfer_of_a_group_splits_the_same_tiles_every_time(group):
    assert len({sum(p.transfer.tiles) for p in load_protocols(group)}) == 1


@pytest.mark.parametrize(
    ("name", "count"),
    [("all", 11), ("cross_sensor", 4), ("dfc_season", 4), ("dfc_season/summer", 1), ("whu_indomain", 1)],
)
def test_names_mean_a_protocol_a_group_or_all(name, count):
    assert len(load_protocols(name)) == count


def test_an_unknown_name_suggests_the_near_one():
    with pytest.raises(UnknownNameError, match="'whu_region"):
        load_protocols("whu_regoin")


def test_a_users_file_is_read_with_its_name_from_the_file(tmp_path):
    (protocol,) = load_protocols(str(write(tmp_path, OWN)))
    assert protocol.name == "my_tiles"
    assert protocol.title == "Low to high"
    assert protocol.file.sensor.wavelengths == (490, 560, 660)
    assert protocol.transfer.target.where == {"domain": ("midland", "highland")}


def test_one_member_of_a_users_file_can_be_picked(tmp_path):
    content = {key: value for key, value in OWN.items() if key not in ("source", "target", "by")}
    up = {key: OWN[key] for key in ("source", "target", "by")}
    content["protocols"] = {"up": up, "down": {"source": up["target"], "target": up["source"], "by": "domain"}}
    path = write(tmp_path, content)
    assert len(load_protocols(str(path))) == 2
    assert [p.name for p in load_protocols(f"{path}:down")] == ["my_tiles/down"]
    with pytest.raises(UnknownNameError, match="'sideways'"):
        load_protocols(f"{path}:sideways")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensor": None}, "must describe: sensor"),
        ({"classes": None}, "must describe: classes"),
        ({"dataset": "whuohs"}, "belong to 'dataset: tiles'"),
        ({"source": {}}, "name at least one attribute"),
        ({"classes": [OWN["classes"][0]] * 2}, "class codes occur twice"),
        ({"ignore": [10]}, "both a class and ignored"),
        ({"colour": "red"}, "colour"),
        ({"name": "Not A Name"}, "name"),
        ({"classes": [{"code": 10, "name": "trees", "color": "green"}]}, "classes.0.color"),
    ],
)
def test_a_file_that_does_not_follow_the_format_is_refused_with_the_field(tmp_path, change, message):
    with pytest.raises(ProtocolError, match=message) as error:
        read_protocol_file(write(tmp_path, {**OWN, **change}))
    assert "my-tiles.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "empty or not a mapping"), ("- a\n- b\n", "not a mapping"), ("a: [1\nb: 2\n", "YAML at line")],
)
def test_a_file_that_is_no_protocol_is_refused(tmp_path, text, message):
    with pytest.raises(ProtocolError, match=message):
        read_protocol_file(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ProtocolError, match="cannot read protocol file"):
        load_protocols(str(tmp_path / "none.yaml"))


def test_a_domain_needs_every_attribute_and_compares_as_text():
    index = pd.DataFrame({"pair": [1, 1, 2], "side": ["S", "T", "S"]})
    domain = Domain.model_validate({"pair": [1, 3], "side": "S"})
    assert list(domain.select(index)) == [True, False, False]
    assert str(domain) == "pair = 1 | 3, side = S"


def test_a_domain_on_an_unknown_attribute_lists_those_there_are():
    with pytest.raises(ProtocolError, match="'season' is not in the tile index; it has: side"):
        Domain.model_validate({"season": "spring"}).select(pd.DataFrame({"side": ["S"]}))


DESCRIBED = {
    "name": "own",
    "title": "Own tiles",
    "dataset": "tiles",
    "sensor": {"name": "drone", "bands": {"blue": 470, "green": 560, "red": 660}, "rgb": ["red", "green", "blue"]},
    "classes": [{"code": 1, "name": "wood", "color": "#00aa00"}, {"code": 2, "name": "water", "color": "#0000aa"}],
    "source": {"region": "north"},
    "target": {"region": "south"},
    "by": "region",
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"title": "Another title"}, True),
        ({"classes": [{"code": 1, "name": "forest", "color": "#111111"}, DESCRIBED["classes"][1]]}, True),
        ({"tiles": [3, 4]}, True),
        ({"classes": [{"code": 3, "name": "wood", "color": "#00aa00"}, DESCRIBED["classes"][1]]}, False),
        ({"ignore": [7]}, False),
        ({"target": {"region": "east"}}, False),
        ({"sensor": DESCRIBED["sensor"] | {"scale": 1.0}}, False),
    ],
)
def test_a_digest_covers_what_trains_and_scores_and_nothing_cosmetic(tmp_path, change, same):
    def digest(content):
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump(content))
        (protocol,) = load_protocols(str(path))
        return protocol.digest

    assert (digest(DESCRIBED | change) == digest(DESCRIBED)) is same


def test_what_sensors_learned_to_say_later_is_not_in_the_digest_where_they_do_not_say_it(tmp_path):
    def digest(**said):
        path = tmp_path / "own.yaml"
        sensor = {"name": "cam", "bands": {"blue": 490, "red": 660}, "ground_sampling_distance": 5, "nodata": 0} | said
        classes = [{"code": 1, "name": "a", "color": "#112233"}, {"code": 2, "name": "b", "color": "#445566"}]
        sides = {"source": {"part": "a"}, "target": {"part": "b"}, "by": "part"}
        content = {"title": "one", "dataset": "tiles", "sensor": sensor, "classes": classes} | sides
        path.write_text(yaml.safe_dump(content))
        (protocol,) = load_protocols(str(path))
        return protocol.digest

    # As it was before sensors had a level.
    assert digest() == "f5c86d9b1978aab3"
    assert digest(level="L1") != digest()


TYPED = """
title: Typed values
dataset: tiles
sensor: {name: hls, bands: {blue: 490, green: 560, red: 660}}
classes: [{code: 10, name: trees, color: "#00aa00"}]
source: {month: [06, 07, 08, 1e3, 0x10, 2020-01-02], bands: [1-2]}
target: {NO: [NO, yes, ~, 1.50]}
by: off
"""


def test_values_that_select_tiles_are_the_text_in_the_file(tmp_path):
    (protocol,) = load_protocols(str(write(tmp_path, TYPED)))
    transfer = protocol.transfer
    assert transfer.source.where == {"month": ("06", "07", "08", "1e3", "0x10", "2020-01-02")}
    assert transfer.target.where == {"NO": ("NO", "yes", "~", "1.50")}
    assert transfer.by == "off"
    assert transfer.source.bands == ("1-2",)


def test_values_of_several_transfers_are_the_text_in_the_file(tmp_path):
    head, source, target, by = TYPED.partition("source:")[0], "{m: 06}", "{m: &a [NO, 07]}", "m"
    text = f"{head}protocols:\n  no: {{source: {source}, target: {target}, by: {by}}}\n"
    text += f"  back: {{source: {{m: [NO, 07]}}, target: {source}, by: {by}}}\n"
    file = read_protocol_file(write(tmp_path, text))
    assert list(file.protocols) == ["no", "back"]
    assert file.protocols["no"].source.where == {"m": ("06",)}
    assert file.protocols["no"].target.where == file.protocols["back"].source.where == {"m": ("NO", "07")}


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [{"a": 1}]])
def test_a_value_that_no_tile_can_have_is_refused(tmp_path, value):
    with pytest.raises(ProtocolError, match="domain: give a value or a list of values"):
        read_protocol_file(write(tmp_path, OWN | {"source": {"domain": value}}))


INDEX = pd.DataFrame({"domain": ["lowland", "Midland", "highland "]})


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("midland", "no tile has domain = 'midland'; is 'Midland' meant?"),
        ("highland", "no tile has domain = 'highland'; is 'highland ' meant?"),
        ("lowlnd", "no tile has domain = 'lowlnd'; is 'lowland' meant?"),
        ("x", "no tile has domain = 'x'; there is 'lowland', 'Midland', 'highland '"),
    ],
)
def test_a_value_that_no_tile_has_is_named_with_the_nearest(value, note):
    domain = Domain.model_validate({"domain": ["lowland", value, value]})
    assert list(domain.unmatched(INDEX)) == [note]
    assert not list(Domain.model_validate({"domain": ["lowland", "Midland"]}).unmatched(INDEX))


WHU = "title: T\ndataset: whuohs\nsource: {side: S}\ntarget: {side: T}\nby: city\n"


def versioned(tmp_path, version):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"version: {version}\ntitle: T\ndataset: whuohs\nsource: {{side: S}}\ntarget: {{side: T}}\nby: city\n"
    )
    return load_protocols(str(path))[0]


def test_every_shipped_protocol_file_has_a_version():
    for path in sorted(Path(str(files("spectral_tl_bench.benchmarks"))).glob("*.yaml")):
        assert re.search(r"^version: [1-9]\d*$", path.read_text(), flags=re.MULTILINE), path.name


def test_version_1_is_the_default_and_another_version_is_another_protocol(tmp_path):
    (tmp_path / "plain.yaml").write_text(f"name: mine\n{WHU}")
    (plain,) = load_protocols(str(tmp_path / "plain.yaml"))
    assert plain.file.version == 1
    assert plain.digest == versioned(tmp_path, 1).digest != versioned(tmp_path, 2).digest


@pytest.mark.parametrize("version", ["0", "-1", "1.5", "two", "true", "[1]"])
def test_a_version_that_is_no_whole_number_from_1_is_refused(tmp_path, version):
    with pytest.raises(ProtocolError, match="version"):
        versioned(tmp_path, version)
