"""Broken and hostile protocols, suites, run configurations and records: one line that says why, nothing run."""

import json
import shutil

import pytest
import yaml
from command_line import each, refused
from place import PROTOCOL
from run_records import reseal

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
MERGE_BOMB = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
)
ANY_YAML = [
    ("empty", b"", "empty or not a mapping"),
    ("list", b"[1, 2]", "not a mapping"),
    ("number", b"1", "not a mapping"),
    ("null", b"~", "not a mapping"),
    ("no UTF-8", "title: größe".encode("latin-1"), "utf-8"),
    ("UTF-16", "title: x".encode("utf-16"), "utf-8"),
    ("binary", bytes(range(256)), "utf-8"),
    ("NUL", b"title: a\0b", "special characters"),
    ("escaped NUL", b'title: "a\\0b"', "cannot be written"),
    ("half a character", b'title: "a\\ud800b"', "cannot be written"),
    ("escape sequence", b"title: \x1b[31mred", "special characters"),
    ("tab", b"\ttitle: x", "line 1"),
    ("open bracket", b"title: [", "line 1"),
    ("two documents", b"title: x\n---\ntitle: y", "document"),
    ("aliases of aliases", BOMB.encode(), "aliases counted"),
    ("merges of merges", MERGE_BOMB.encode(), "aliases counted"),
    ("alias in itself", b"title: &a [*a]", "contains itself"),
    ("alias of nothing", b"title: *a", "undefined alias"),
    ("100,000 brackets", b"[" * 100_000, "nested more than"),
    ("100,000 braces", b"{a: " * 100_000, "nested more than"),
    ("100,000 dashes", b"- " * 100_000, "nested more than"),
    ("1,000 levels", "".join(f"{' ' * n}a:\n" for n in range(1000)).encode(), "nested more than"),
    ("python object", b"title: !!python/object/apply:os.system ['touch EXECUTED']", "constructor"),
    ("python name", b"title: !!python/name:os.system", "constructor"),
    ("unknown tag", b"title: !secret x", "constructor"),
    ("unhashable key", b"{[a]: b}", "unhashable"),
    ("5,000 digits", b"title: " + b"9" * 5000, "5000 digits"),
    ("hexadecimal digits", b"title: 0x" + b"f" * 5000, "digits"),
    ("no such day", b"title: 2020-99-99", "not valid YAML"),
    ("no timestamp", b"title: !!timestamp x", "not valid YAML"),
    ("no boolean", b"title: !!bool x", "not valid YAML"),
    ("no base64", b"title: !!binary '*'", "YAML"),
]


def changed(*pairs):
    """The sound protocol with some texts replaced."""
    text = PROTOCOL
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


FOLDER = "folder: {tile: name, block: sheet}"
PROTOCOLS = [
    *(
        (name, changed((FOLDER, f"folder: {{tile: name, {field}: {path}}}")), f"folder.{field}", "leads out")
        for name, field, path in (
            ("images above", "images", '"../{tile}"'),
            ("images far above", "images", '"images/../../../{tile}"'),
            ("images elsewhere", "images", '"/etc/{tile}"'),
            ("images on a drive", "images", '"C:/{tile}"'),
            ("labels above, other slashes", "labels", "'..\\..\\{tile}'"),
            ("index above", "index", "../tiles.csv"),
            ("index elsewhere", "index", "/etc/passwd"),
            ("index nowhere", "index", '""'),
        )
    ),
    (
        "one image for all tiles",
        changed((FOLDER, "folder: {images: images/a.tif}")),
        "folder",
        "images/a.tif",
        "{tile}",
    ),
    ("a template without a column", changed((FOLDER, 'folder: {images: "{}"}')), "folder.images", "{tile}"),
    ("polygons elsewhere", changed((FOLDER, "folder: {tiles: {size: 16, polygons: /etc/a.gpkg}}")), "leads out"),
    ("tiles that overlap", changed((FOLDER, "folder: {tiles: {size: 16, stride: 8}}")), "folder.tiles", "overlap"),
    ("tiles without end", changed((FOLDER, "folder: {tiles: {size: 0}}")), "folder.tiles.size"),
    ("bands that are none", changed((FOLDER, f"{FOLDER}\nbands: [swir]")), "'swir'"),
    ("bands without end", changed((FOLDER, f"{FOLDER}\nbands: ['1-999999999']")), "1-999999999"),
    ("folder is a list", changed((FOLDER, "folder: [../..]")), "folder"),
    ("folder is a path", changed((FOLDER, "folder: ../..")), "folder"),
    ("unknown field", changed(("title:", "titel: x\ntitle:")), "titel"),
    ("no title", changed(("title: Coast to inland\n", "")), "title"),
    ("title is a list", changed(("Coast to inland", "[[red]]")), "title"),
    ("markup in the name", changed(("title:", 'name: "[red]"\ntitle:')), "name"),
    ("name leads out", changed(("title:", "name: ../../x\ntitle:")), "name"),
    ("key is a number", changed(("title:", "1: 2\ntitle:")), "1"),
    ("no sensor", changed(("sensor: {", "# {")), "sensor"),
    ("no bands", changed(("{blue: 480, green: 560, red: 660, nir: 840}", "{}")), "bands"),
    ("bands are text", changed(("{blue: 480, green: 560, red: 660, nir: 840}", "all")), "bands"),
    *(
        (f"wavelength {value}", changed(("nir: 840", f"nir: {value}")), "wavelength")
        for value in (".nan", ".inf", -1, "x")
    ),
    ("colour of no band", changed(("rgb: [red,", "rgb: ['[/]',")), "rgb"),
    ("two colours", changed(("rgb: [red, green, blue]", "rgb: [red, green]")), "rgb"),
    *(
        (f"scale {value}", changed(("name: drone", f"name: drone, scale: {value}")), "scale")
        for value in (0, -1, ".inf", "x")
    ),
    ("no classes", changed(("classes:\n", "classes: []\nunused:\n")), "classes"),
    *((f"code {value}", changed(("code: 10", f"code: {value}")), "code") for value in (-40_000, 70_000, "x", 1.5)),
    ("code twice", changed(("code: 10", "code: 20")), "twice"),
    ("colour is a name", changed(('"#aa8800"', "red")), "color"),
    ("ignore everything", changed(("by:", "ignore: all\nby:")), "ignore"),
    ("ignore a class", changed(("by:", "ignore: [10]\nby:")), "both a class and ignored"),
    ("ignore every class", changed(("by:", "ignore: [10, 20, 30]\nby:")), "both a class and ignored"),
    ("source is empty", changed(("{region: coast}", "{}")), "source"),
    ("source is a list", changed(("{region: coast}", "[coast]")), "source"),
    ("source is null", changed(("{region: coast}", "~")), "source"),
    ("source of no column", changed(("{region: coast}", "{'[red]': coast}")), "[red]"),
    ("by no column", changed(("by: region", "by: '[/]'")), "[/]"),
    ("by is missing", changed(("by: region", "")), "by"),
    ("no transfers", b"title: x\ndataset: tiles\nprotocols: {}", "protocols"),
    ("transfers are a list", b"title: x\ndataset: whuohs\nprotocols: [a]", "protocols"),
    ("no such dataset", b"title: x\ndataset: '[/]'\nsource: {a: b}\ntarget: {a: c}\nby: a", "unknown dataset '[/]'"),
    ("dataset is a number", b"title: x\ndataset: 3\nsource: {a: b}\ntarget: {a: c}\nby: a", "dataset"),
    ("dataset in no file", b"title: x\ndataset: no.py:X\nsource: {a: b}\ntarget: {a: c}\nby: a", "no.py"),
    ("100,000 spaces", b"title: " + b" " * 100_000 + b"[", "line 1"),
]
SUITE = {"title": "x", "methods": ["lora"], "protocols": ["whu_region/s2t"], "preset": "quick"}
SUITES = [
    ("no methods", {**SUITE, "methods": []}, "methods"),
    ("methods are a number", {**SUITE, "methods": 3}, "methods"),
    ("methods are markup", {**SUITE, "methods": "[red]"}, "methods"),
    ("unknown method", {**SUITE, "methods": ["[/]"]}, "unknown method '[/]'"),
    ("method of numbers", {**SUITE, "methods": [1]}, "methods"),
    ("method without a name", {**SUITE, "methods": [{"options": {}}]}, "name"),
    ("method with an unknown key", {**SUITE, "methods": [{"name": "lora", "rank": 3}]}, "rank"),
    ("no protocols", {**SUITE, "protocols": []}, "protocols"),
    ("protocols are text", {**SUITE, "protocols": "whu_region"}, "protocols"),
    ("unknown protocol", {**SUITE, "protocols": ["[red]"]}, "unknown protocol '[red]'"),
    ("no seeds", {**SUITE, "seeds": []}, "seeds"),
    ("seed below 0", {**SUITE, "seeds": [-1]}, "seed"),
    ("seed too large", {**SUITE, "seeds": [2**32]}, "seed"),
    ("seed is text", {**SUITE, "seeds": ["x"]}, "seeds"),
    ("unknown preset", {**SUITE, "preset": "[/]"}, "unknown preset '[/]'"),
    ("unknown backbone", {**SUITE, "backbones": ["vit"]}, "unknown backbone"),
    ("weights are a list of lists", {**SUITE, "weights": [[]]}, "weights"),
    ("unknown setting", {**SUITE, "train": {"stepz": 1}}, "stepz"),
    ("setting is a list", {**SUITE, "train": {"batch_size": [1]}}, "batch_size"),
    ("unknown try", {**SUITE, "tries": {"stepz": [1]}}, "stepz"),
    ("no tries", {**SUITE, "tries": {"batch_size": []}}, "batch_size"),
    ("tries are a number", {**SUITE, "tries": {"batch_size": 1}}, "tries"),
    ("unknown key", {**SUITE, "method": "lora"}, "method"),
    ("keys are numbers", {1: 2}, "title: Field required"),
    (
        "more runs than anybody can do",
        {**SUITE, "seeds": list(range(200)), "tries": {"batch_size": list(range(1, 200))}},
        "runs",
    ),
]


@each([*ANY_YAML, *PROTOCOLS])
def test_a_protocol_that_cannot_be_used_is_one_line(unharmed, tmp_path, written, parts):
    path = tmp_path / "theirs.yaml"
    path.write_bytes(written)
    refused(unharmed("data", "index", path, "own"), *parts)


@each([*ANY_YAML[:1], *ANY_YAML[12:20], *SUITES])
def test_a_suite_that_cannot_be_used_is_one_line(unharmed, tmp_path, written, parts):
    path = tmp_path / "theirs.yaml"
    path.write_bytes(written if isinstance(written, bytes) else yaml.safe_dump(written).encode())
    refused(unharmed("sweep", path, "--root", "own", "--out", tmp_path / "runs"), *parts)
    assert not (tmp_path / "runs").exists()


def edit(content, where, value):
    """Set what lies at a path of keys; Ellipsis removes it."""
    *above, last = where.split(".")
    for key in above:
        content = content[key]
    if value is ...:
        del content[last]
    else:
        content[last] = value


CONFIGS = [
    ("no specification", "spec", ...),
    ("specification is a list", "spec", []),
    ("unknown key", "spec.lr", 1),
    ("method is a number", "spec.method", 3),
    ("no method", "spec.method", ""),
    ("unknown method", "spec.method", "[/]"),
    ("method in no file", "spec.method", "no.py:X"),
    ("unknown backbone", "spec.backbone", "[red]"),
    ("unknown protocol", "where.protocol_file", None),
    ("protocol of no file", "where.protocol_file", "no.yaml"),
    ("protocol is a number", "where.protocol_file", 3),
    ("no such root", "where.root", "no/such/folder"),
    ("root is a list", "where.root", []),
    ("no such weights", "where.weights", "no.pth"),
    ("no such stage 1", "where.stage1", "no.safetensors"),
    ("seed below 0", "spec.seed", -1),
    ("seed too large", "spec.seed", 10**30),
    ("unknown option", "spec.method_options", {"rank": 3}),
    ("options are a list", "spec.method_options", []),
    ("steps are text", "spec.training.segmentation_steps", "x"),
    ("setting is not finite", "spec.training.learning_rate", float("inf")),
    ("unknown decoder", "spec.training.decoder", "[/]"),
    ("loss in no file", "spec.training.loss", "no.py:X"),
    ("unknown setting", "spec.training.stepz", 3),
]


@each([(name, (where, value), where.rpartition(".")[2][:6]) for name, where, value in CONFIGS])
def test_a_run_configuration_that_cannot_be_used_is_one_line(unharmed, finished, tmp_path, written, parts):
    read = yaml.safe_load((finished / "run.yaml").read_text())
    edit(read, *written)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(read))
    refused(unharmed("run", "--config", path, "--out", tmp_path / "out"))
    assert not list(tmp_path.rglob("run.json"))


ANY_JSON = [
    ("empty", b"", "JSON"),
    ("binary", bytes(range(256)), "JSON"),
    ("open bracket", b"{", "JSON"),
    ("100,000 brackets", b"[" * 100_000, "nested more than"),
    ("100,000 objects", b'{"a":' * 100_000, "nested more than"),
    ("900 levels", b"[" * 900 + b"]" * 900, "nested more than"),
    ("5,000 digits", b"9" * 5000, "JSON"),
    ("half a character", b'{"a": "\\ud800"}', "cannot be written"),
    ("NUL", b'{"a\\u0000": 1}', "cannot be written"),
    ("list", b"[]", "not the record"),
    ("text", b'"[/]"', "not the record"),
    ("another tool's", b'{"name": "x"}', "not the record"),
]
RECORDS = [
    ("another format", "format", 99, "format 99"),
    ("format is a list", "format", [1], "format"),
    ("title is null", "title", None, "title"),
    ("unknown key", "surprise", 1, "surprise"),
    ("seed is text", "spec.seed", "x", "seed"),
    ("seed of 4,000 digits", "spec.seed", 10**4000, "seed"),
    ("another seed than its folder's", "spec.seed", 7, "contradicts its folder"),
    ("another method than its folder's", "spec.method", "[/]", "contradicts its folder"),
    ("NaN", "peak_memory_mib", float("nan"), "peak_memory_mib"),
    ("no classes", "classes", [], "classes"),
    ("tiles below 0", "tiles.target", -1, "tiles.target"),
    ("more tiles than counts", "tiles.target", 10**30, "target tiles"),
    ("stages are a list", "stages", [], "stages"),
    ("training is a list", "spec.training", [], "training"),
    ("options that nest", "spec.method_options", {"a": [[[[[[1]]]]]]}, "contradicts its folder"),
]


@pytest.fixture
def copied(place, tmp_path):
    """A copy of a sound record."""
    source = next((place / "runs").rglob("run.json")).parent
    return shutil.copytree(source, tmp_path / source.name)


@each(ANY_JSON)
def test_a_record_that_is_none_is_one_line(unharmed, copied, written, parts):
    (copied / "run.json").write_bytes(written)
    refused(unharmed("show", copied), "run.json", *parts)


@each([(name, (where, value), part) for name, where, value, part in RECORDS])
def test_a_record_that_contradicts_itself_is_one_line(unharmed, copied, written, parts):
    path = copied / "run.json"
    read = json.loads(path.read_text())
    edit(read, *written)
    path.write_text(json.dumps(read))
    if parts[0] == "target tiles":
        reseal(copied)
    refused(unharmed("show", copied), "run.json" if parts[0] != "target tiles" else "confusion", *parts)


@pytest.mark.parametrize("command", ["leaderboard", "report", "compare"])
def test_a_folder_of_broken_records_alone_is_one_line(unharmed, copied, tmp_path, command):
    (copied / "run.json").write_bytes(b"[" * 100_000)
    arguments = ["lora", "frozen"] if command == "compare" else ["--out", tmp_path / "out"]
    result = unharmed(command, *arguments, "--runs", tmp_path)
    refused(result, "nested more than" if command != "compare" else "no run of lora")
