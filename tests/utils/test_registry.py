"""What a third party adds: each thing in one file outside the package, by path and by entry point."""

import dataclasses
import subprocess
import sys

import pytest
import third_party

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.datasets import dataset_class
from spectral_tl_bench.methods import method_class, method_names, method_options
from spectral_tl_bench.records import find_runs, read_run
from spectral_tl_bench.utils.built_in import find, first_paragraph
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import (
    BACKBONES,
    DATASETS,
    DECODERS,
    LOSSES,
    METHODS,
    REGISTRIES,
    SAMPLERS,
    PluginError,
)

FILES = {
    "bias.py": third_party.METHOD,
    "tiny.py": third_party.BACKBONE,
    "last_map.py": third_party.DECODER,
    "focal.py": third_party.LOSS,
    "first.py": third_party.SAMPLER,
    "harbours.py": third_party.DATASET,
    "harbours.yaml": third_party.PROTOCOL,
}
NAMES = {
    METHODS: "bias:BiasTuning",
    BACKBONES: "tiny:TINY",
    DATASETS: "harbours:Harbours",
    DECODERS: "last_map:LastMap",
    LOSSES: "focal:focal",
    SAMPLERS: "first:first_domain",
}


@pytest.fixture
def folder(tmp_path):
    """A third party's folder with a file for each thing, and tiles."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    third_party.write_tiles(tmp_path / "tiles")
    return tmp_path


@pytest.fixture
def install(folder, monkeypatch):
    """Install a package with entry points, ``{group: {name: value}}``, beside the third party's files."""

    def install(points):
        info = folder / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        text = "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in points.items()
        )
        (info / "entry_points.txt").write_text(text)
        monkeypatch.syspath_prepend(folder)
        return folder

    yield install
    for name in [name for name, module in sys.modules.items() if is_below(folder, module)]:
        del sys.modules[name]


def is_below(folder, module):
    return (getattr(module, "__file__", None) or "").startswith(str(folder))


def test_everything_of_a_third_party_runs_by_path(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    command = (
        *("run", "--method", "bias.py:BiasTuning", "--backbone", "tiny.py:TINY", "--weights", "none"),
        *("--protocol", "harbours.yaml", "--root", "tiles", "--preset", "quick", "--out", "out"),
        *("--train", "decoder=last_map.py:LastMap", "--train", "loss=focal.py:focal"),
        *("--train", "sampler=first.py:first_domain", "--train", "image_size=32", "--train", "segmentation_steps=3"),
        *("--train", "validations=1"),
    )
    main_exits_well(*command)
    (run,) = find_runs(folder / "out")
    spec = read_run(run).record.spec
    assert run.name.startswith("BiasTuning-TINY-s0-")
    assert set(spec.sources) == {"backbone", "dataset", "decoder", "loss", "sampler"}
    assert spec.dataset == "Harbours"
    first = spec.digest
    edited = folder / "focal.py"
    edited.write_text(edited.read_text().replace("** 2", "** 3"))
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--config", str(run / "run.yaml"), "--out", "again"])
    assert "focal.py, Python code that you have not run in this form before" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--config", str(run / "run.yaml"), "--out", "again", "--trust-code"])
    assert "files that the run names differ" in capsys.readouterr().err
    main_exits_well(*command, "--out", "again")
    (again,) = find_runs(folder / "again")
    assert read_run(again).record.spec.digest != first


def test_everything_of_a_third_party_runs_by_entry_point(install, monkeypatch):
    folder = install({registry.group: {f"their_{registry.kind}": value} for registry, value in NAMES.items()})
    monkeypatch.chdir(folder)
    (folder / "harbours.yaml").write_text(third_party.PROTOCOL.replace("harbours.py:Harbours", "their_dataset"))
    command = ["run", "--method", "their_method", "--backbone", "their_backbone", "--weights", "none"]
    command += ["--protocol", "harbours.yaml", "--root", "tiles", "--preset", "quick", "--out", "out"]
    for setting in ("decoder=their_decoder", "loss=their_loss", "sampler=their_sampler", "image_size=32"):
        command += ["--train", setting]
    command += ["--train", "segmentation_steps=3", "--train", "validations=1"]
    # The entry of a name must carry it, as docs/add-a-backbone.md says.
    (folder / "tiny.py").write_text(third_party.BACKBONE.replace('"tiny"', '"their_backbone"'))
    main_exits_well(*command)
    (run,) = find_runs(folder / "out")
    assert read_run(run).record.spec.sources == {}


def main_exits_well(*arguments):
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    assert exit_info.value.code in (0, None)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_a_plugin_that_cannot_be_imported_is_one_line_and_the_others_still_work(registry, install):
    names = registry.names()
    install({registry.group: {"theirs": "no_such_module:Thing"}})
    assert registry.names() == [*names, "theirs"] or set(registry.names()) == {*names, "theirs"}
    usable, problems = registry.usable()
    assert set(usable) == set(names)
    assert len(problems) == 1
    assert "theirs" in problems[0]
    assert "no_such_module" in problems[0]
    with pytest.raises(PluginError, match="theirs"):
        registry.load("theirs")


@pytest.mark.parametrize("command", ["methods", "backbones", "datasets"])
def test_lists_name_a_broken_plugin_beside_the_others(command, install, capsys):
    install({f"spectral_tl_bench.{command}": {"theirs": "no_such_module:Thing"}})
    main_exits_well(command)
    printed = " ".join(capsys.readouterr().out.split())
    assert "theirs" in printed
    assert "cannot be imported" in printed
    assert {"methods": "lora", "backbones": "vit_micro", "datasets": "dfc2020"}[command] in printed


def test_a_broken_plugin_is_no_method_of_tests_and_suites(install):
    before = method_names()
    install({METHODS.group: {"theirs": "no_such_module:Thing"}})
    assert method_names() == before


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_an_unknown_name_is_refused_and_says_where_to_look(registry):
    with pytest.raises(UnknownNameError, match=f"unknown {registry.kind} 'nothing'"):
        registry.load("nothing")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_everything_registered_can_be_imported(registry):
    usable, problems = registry.usable()
    assert problems == []
    assert usable


def test_what_is_no_dataset_is_refused(folder):
    with pytest.raises(Exception, match="is no dataset"):
        dataset_class(f"{folder}/focal.py:focal")


@pytest.mark.parametrize(
    ("text", "message"), [("1 / 0", "fails on import: ZeroDivisionError"), ("x = 1", "defines no Thing")]
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(PluginError, match=message):
        METHODS.load(f"{tmp_path}/mine.py:Thing")


BUILT_IN = [(registry, name) for registry in REGISTRIES for name in registry.built_in]
BUILT_IN_IDS = [f"{registry.kind} {name}" for registry, name in BUILT_IN]


@pytest.mark.parametrize(("registry", "name"), BUILT_IN, ids=BUILT_IN_IDS)
def test_what_the_source_text_says_is_what_an_import_says(registry, name):
    loaded = registry.load(name)
    if registry.value_class is not None:
        assert (type(loaded).__name__, loaded.name) == (registry.value_class, name)
    declared = [getattr(loaded, attribute, None) for attribute in ("summary", "title", "label")]
    assert registry.summary(name) == next(filter(None, declared), first_paragraph(loaded.__doc__))


@pytest.mark.parametrize("name", METHODS.built_in)
def test_options_of_a_method_are_listed_as_an_import_gives_them(name):
    fields = [field for field in dataclasses.fields(method_class(name)) if field.init]
    assert method_options(name) == {field.name: str(field.default) for field in fields}


def test_every_name_and_summary_is_listed_without_torch():
    code = "import sys\nfrom spectral_tl_bench.methods import method_options\n"
    code += "from spectral_tl_bench.utils.registry import METHODS, REGISTRIES\n"
    code += "summaries = [registry.summary(name) for registry in REGISTRIES for name in registry.names()]\n"
    code += "options = [method_options(name) for name in METHODS.built_in]\n"
    code += "print(all(summaries), 'torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_lists_keep_their_order():
    assert METHODS.names() == sorted(METHODS.names())
    firsts = {registry.kind: registry.names()[0] for registry in REGISTRIES if registry is not METHODS}
    assert firsts == {
        "backbone": "vit_micro",
        "dataset": "whuohs",
        "decoder": "upernet",
        "loss": "cross_entropy",
        "sampler": "uniform",
        "score": "miou",
    }


def test_an_entry_point_that_repeats_what_comes_with_the_package_is_no_conflict(install):
    install({METHODS.group: {"lora": METHODS.built_in["lora"].value}})
    assert METHODS.load("lora").__name__ == "LoRA"


def test_a_name_of_the_package_that_a_plugin_takes_is_refused(install):
    install({METHODS.group: {"lora": "bias:BiasTuning"}})
    with pytest.raises(PluginError, match="'lora' is defined twice, by this package and by bias:BiasTuning"):
        METHODS.load("lora")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('@METHODS.register("a")\nclass A: ...\n@METHODS.register("a")\nclass B: ...\n', "3: a is registered twice"),
        ("@METHODS.register(NAME)\nclass A: ...\n", r"1: METHODS.register\(NAME\) must be registered under a name"),
    ],
)
def test_a_registration_that_cannot_be_read_is_refused(tmp_path, monkeypatch, text, message):
    (tmp_path / "theirs_to_search").mkdir()
    (tmp_path / "theirs_to_search" / "methods.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpectralBenchError, match=message):
        find(["theirs_to_search"], "METHODS", None)
