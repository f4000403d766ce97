"""Readers of files on whatever hypothesis writes: a sound value comes out, or one of our errors."""

import contextlib
import copy
import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from place import PROTOCOL
from run_records import spec, write

from spectral_tl_bench.config.protocols import ProtocolFile, read_protocol_file
from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records import Run, Where, read_run, read_run_yaml
from spectral_tl_bench.sweeps.suite import Suite, read_suite
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.validation import parse_json, read_mapping

# The same examples every time: what one person's machine finds, everybody's does.
fuzzed = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SUITE = {"title": "x", "methods": ["lora", {"name": "frozen"}], "protocols": ["whu_region/s2t"], "seeds": [0, 1]}
SUITE |= {"preset": "quick", "train": {"batch_size": 2}, "tries": {"learning_rate": [0.1, 0.2]}}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**300, 10**310),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["[red]", "[/]", "../x", "/etc/x", "{tile}", "all", "rest", "tiles", "whuohs", "1e999", ".inf", "~"]
    ),
    st.dates(),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def places(value, path=()):
    """Paths of keys and positions to everything in a document."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*path, key))


def changed(sound):
    """A sound document with something in it replaced, taken out, or added."""
    paths = [path for path in places(sound) if path]

    @st.composite
    def change(draw):
        document = copy.deepcopy(sound)
        for _ in range(draw(st.integers(1, 2))):
            *above, last = draw(st.sampled_from(paths))
            holder = document
            try:
                for key in above:
                    holder = holder[key]
                action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
                if action == "replace":
                    holder[last] = draw(VALUES)
                elif action == "remove":
                    del holder[last]
                elif isinstance(holder, dict):
                    holder[draw(st.text(max_size=4))] = draw(VALUES)
            except (KeyError, IndexError, TypeError):
                continue  # the first change took away what the second was about
        return document

    return change()


def plain(value):
    """The value as JSON can hold it."""
    return json.loads(json.dumps(value, default=str))


def read(reader, path, text):
    """What a reader makes of a text; None where it refuses it in one line."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return reader(path)
    except SpectralBenchError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The file of a sound record, which the test overwrites, and what it held."""
    path = write(tmp_path_factory.mktemp("fuzzed"), spec()) / "run.json"
    return path, json.loads(path.read_text())


@fuzzed
@given(document=VALUES | changed(yaml.safe_load(PROTOCOL)))
def test_protocols(tmp_path, document):
    found = read(read_protocol_file, tmp_path / "p.yaml", yaml.safe_dump(document))
    if found is not None:
        assert ProtocolFile.model_validate(found.model_dump()) == found


@fuzzed
@given(document=VALUES | changed(SUITE))
def test_suites(tmp_path, document):
    found = read(read_suite, tmp_path / "s.yaml", yaml.safe_dump(document))
    assert found is None or isinstance(found, Suite)


SOUND_CONFIG = {"spec": spec().model_dump(mode="json"), "where": {"root": "data", "weights": "none"}}


@fuzzed
@given(document=VALUES | changed(SOUND_CONFIG))
def test_run_configurations(tmp_path, document):
    found = read(read_run_yaml, tmp_path / "run.yaml", yaml.safe_dump(document))
    if found is not None:
        known, where = found
        assert isinstance(known, RunSpec)
        assert isinstance(where, Where)
        assert len(known.digest) == 10
        # Wherever the names come from, a run stays below the folder of all runs.
        assert ".." not in known.folder.parts
        assert not known.folder.is_absolute()


@fuzzed
@given(data=st.data())
def test_records(record, data):
    path, sound = record
    document = data.draw((VALUES | changed(sound)).map(plain))
    found = read(lambda file: read_run(file.parent), path, json.dumps(document))
    assert found is None or isinstance(found, Run)


@fuzzed
@given(text=st.text() | st.binary() | st.text(alphabet="[]{}&*!|>%@`'\",:-?# \n\t<a0"))
def test_any_text_as_yaml(tmp_path, text):
    found = read(lambda path: read_mapping(path, "file", "see", SpectralBenchError), tmp_path / "x.yaml", text)
    assert found is None or isinstance(found, dict)


@fuzzed
@given(text=st.text() | st.binary() | st.text(alphabet='[]{}",:\\0eu1- \n'))
def test_any_text_as_json(text):
    with contextlib.suppress(ValueError):
        parse_json(text)
