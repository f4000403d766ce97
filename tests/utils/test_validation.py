import pytest
from run_records import spec

from spectral_tl_bench.config.protocols import read_protocol_file
from spectral_tl_bench.records import read_run_yaml, write_run_yaml
from spectral_tl_bench.sweeps.suite import read_suite
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.validation import parse_json, read_mapping

PROTOCOL = "title: t\ndataset: whuohs\nsource: {side: S}\ntarget: {side: T}\nby: city\n"
SUITE = "title: t\nmethods: [lora]\nprotocols: [whu_region]\n"


def config(folder):
    write_run_yaml(folder, spec(), {})
    return (folder / "run.yaml").read_text()


@pytest.mark.parametrize(
    ("read", "text", "given", "twice", "line"),
    [
        (read_protocol_file, PROTOCOL, "by: city\n", "by: city\nby: side\n", 6),
        (read_protocol_file, PROTOCOL, "{side: T}", "{side: T, side: S}", 4),
        (read_suite, SUITE, "title: t\n", "title: t\n'title': t\n", 2),
        (read_run_yaml, config, "  seed: 0\n", "  seed: 0\n  seed: 1\n", None),
    ],
    ids=["protocol", "inside a mapping", "suite", "config"],
)
def test_a_key_given_twice_is_refused_by_its_name_and_line(tmp_path, read, text, given, twice, line):
    text = text if isinstance(text, str) else text(tmp_path)
    path = tmp_path / "file.yaml"
    path.write_text(text)
    read(path)
    assert text.count(given) == 1
    path.write_text(text.replace(given, twice))
    with pytest.raises(SpectralBenchError, match=rf"file\.yaml .* at line {line or ''}.*is given twice") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_what_a_merge_brings_may_be_replaced(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, y: 4}\n")
    assert read_mapping(path, "file", "", SpectralBenchError)["c"] == {"x": 1, "y": 4}


@pytest.mark.parametrize(
    "text",
    ['["a\\ud83d", "\\ude00b"]', '{"a": {"\\u0000": 1}}', '{"a": [{"b": "\\ud83d"}]}'],
    ids=["halves", "key", "deep"],
)
def test_json_of_what_cannot_be_written_is_refused(text):
    with pytest.raises(ValueError, match="cannot be written"):
        parse_json(text)
    assert parse_json('["a\\ud83d\\ude00b"]') == ["a\U0001f600b"]
