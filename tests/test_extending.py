"""Every row of "To add X" in docs/architecture.md, done in a copy of the package with as many files as the row says."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import third_party

import spectral_tl_bench
from spectral_tl_bench.cli.listings import settings_markdown

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = "spectral_tl_bench"


def registered(text, name, mark, registry):
    """A third party's file as a part of the package: the same with a line that registers what ``mark`` begins."""
    imported = f"from spectral_tl_bench.utils.registry import {registry}\n"
    assert mark in text
    return imported + text.replace(mark, f'@{registry}.register("{name}")\n{mark}')


SCORE = """
import numpy as np

from spectral_tl_bench.records import metrics
from spectral_tl_bench.records.scores import Score


def worst(confusion):
    return np.nanmin(metrics.iou(confusion), axis=-1)


WORST = Score("worst_class", "worst class", worst)
"""
PROTOCOL = third_party.PROTOCOL.replace("harbours.py:Harbours", "new_dataset")
SUITE = """
title: everything new
methods: [new_method]
protocols: [new_protocol]
backbones: [new_backbone]
weights: [none]
preset: quick
train:
  {decoder: new_decoder, loss: new_loss, sampler: new_sampler, image_size: 32, segmentation_steps: 3, validations: 1}
"""
LOGIT_SCALE = "Factor on the logits."


def in_spec(text):
    """config/spec.py with another training setting."""
    field = "    label_fraction: float = "
    line = "        label_fraction: "
    assert text.count(field) == text.count(line) == 1
    text = text.replace(line, f"        logit_scale: {LOGIT_SCALE}\n{line}")
    return text.replace(field, f"    logit_scale: float = Field(default=1.0, gt=0)\n{field}")


def in_decoder(text):
    """training/decoders/mlp.py, which uses the setting."""
    built, made = "        super().__init__()\n", "        return logits\n"
    assert text.count(built) == text.count(made) == 1
    text = text.replace(built, f"{built}        self.logit_scale = training.logit_scale\n")
    return text.replace(made, "        return logits * self.logit_scale\n")


def in_page(text):
    """docs/settings.md with its table as the command prints it for the copy."""
    return text.replace(settings_markdown(), "SETTINGS")


METHOD = registered(third_party.METHOD, "new_method", "@dataclass\nclass BiasTuning", "METHODS")
DATASET = registered(third_party.DATASET, "new_dataset", "class Harbours", "DATASETS")
DECODER = registered(third_party.DECODER, "new_decoder", "class LastMap", "DECODERS")
LOSS = registered(third_party.LOSS, "new_loss", "def focal", "LOSSES")
SAMPLER = registered(third_party.SAMPLER, "new_sampler", "def first_domain", "SAMPLERS")
WRITTEN = {
    "method": {"baselines/new_method.py": METHOD},
    "backbone": {"backbones/new_backbone.py": third_party.BACKBONE.replace('"tiny"', '"new_backbone"')},
    "protocol": {"benchmarks/new_protocol.yaml": PROTOCOL},
    "suite": {"benchmarks/suites/new_suite.yaml": SUITE},
    "dataset": {"datasets/archives/new_dataset.py": DATASET},
    "decoder": {"training/decoders/new_decoder.py": DECODER},
    "loss": {"training/new_loss.py": LOSS},
    "sampler": {"datamodules/new_sampler.py": SAMPLER},
    "score": {"records/new_score.py": SCORE},
    "training setting": {
        "config/spec.py": in_spec,
        "training/decoders/mlp.py": in_decoder,
        "../docs/settings.md": in_page,
    },
}
"""The files of each row below the package, as text or as a function of the text that is there."""

PROGRAM = """
import json, sys
from pathlib import Path

import torch
from spectral_tl_bench.utils.runtime import RuntimeOptions

import spectral_tl_bench
from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.cli.listings import settings_markdown
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.sweeps.suite import find_suite, shipped_suites
from spectral_tl_bench.config.protocols import shipped_protocols
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.utils.registry import REGISTRIES

folder = Path(sys.argv[1])
names = {registry.kind: registry.names() for registry in REGISTRIES}
(request,) = find_suite("new_suite").requests(folder / "tiles")
done = execute(plan(request), folder / "runs", RuntimeOptions(device="cpu"))


def logits(**train):
    torch.manual_seed(0)
    backbone = build_backbone("new_backbone", SENTINEL2)
    segmenter = Segmenter.of(backbone, 3, override(preset("quick"), {"decoder": "mlp", **train})).eval()
    return segmenter(torch.ones(1, 13, 32, 32))


print(json.dumps({
    "package": spectral_tl_bench.__file__,
    "names": names | {"protocol": list(shipped_protocols()), "suite": list(shipped_suites())},
    "choices": done.record.spec.model_dump(mode="json"),
    "table": (done.folder / "table.csv").read_text(),
    "scaled": torch.allclose(logits(logit_scale="3"), 3 * logits()),
    "settings": settings_markdown(),
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package as a wheel installs it, with every row of the table done, and tiles of the new dataset."""
    folder = tmp_path_factory.mktemp("copy")
    package = folder / PACKAGE
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(spectral_tl_bench.__file__).parent, package, ignore=skip)
    for part in ("baselines", "benchmarks", "leaderboards"):
        source = Path(import_module(f"{PACKAGE}.{part}").__file__).parent
        shutil.copytree(source, package / part, ignore=shutil.ignore_patterns("__pycache__", "records"))
    (folder / "docs").mkdir()
    shutil.copy(DOCS / "settings.md", folder / "docs")
    for files in WRITTEN.values():
        for name, text in files.items():
            path = package / name
            assert path.exists() == callable(text), f"{name} is new or is not"
            path.write_text(text(path.read_text()) if callable(text) else text)
    third_party.write_tiles(folder / "tiles")
    return folder


@pytest.fixture(scope="module")
def outcome(copy):
    """What a run of everything new in the copy says, from a process of its own."""
    env = os.environ | {"PYTHONPATH": str(copy), "SPECTRAL_TL_BENCH_CACHE": str(copy / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(copy)], capture_output=True, text=True, env=env, cwd=copy, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert Path(outcome["package"]).is_relative_to(copy)
    return outcome


def rows():
    """What can be added by the number of files that the page says."""
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## To add X")[2]
    return {kind: int(files) for kind, files in re.findall(r"^\| an? ([\w ]+) \| (\d+) \|", table, flags=re.MULTILINE)}


def test_each_row_takes_the_number_of_files_that_it_says():
    assert rows() == {kind: len(files) for kind, files in WRITTEN.items()}


def test_each_file_lies_where_its_row_says():
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## To add X")[2]
    for kind, files in WRITTEN.items():
        (row,) = re.findall(rf"^\| an? {kind} \|.*$", table, flags=re.MULTILINE)
        folder = f"{Path(next(iter(files))).parent}/"
        assert f"`{folder}" in row, f"{kind}: {folder}"


@pytest.mark.parametrize("kind", [kind for kind in WRITTEN if kind not in ("score", "training setting")])
def test_what_is_new_is_listed_by_its_name(kind, outcome):
    assert f"new_{kind}" in outcome["names"][kind]


@pytest.mark.parametrize("kind", ["method", "backbone", "protocol", "dataset"])
def test_what_is_new_runs(kind, outcome):
    assert outcome["choices"][kind] == f"new_{kind}"
    assert outcome["choices"]["sources"] == {}


@pytest.mark.parametrize("kind", ["decoder", "loss", "sampler"])
def test_what_is_new_trains(kind, outcome):
    assert outcome["choices"]["training"][kind] == f"new_{kind}"


def test_a_new_score_is_listed_and_in_the_table_of_a_run(outcome):
    assert outcome["names"]["score"][-1] == "worst_class"
    assert "worst class" in outcome["table"].splitlines()[0]


def test_a_new_setting_is_listed_explained_and_used(outcome, copy):
    assert f"| logit_scale | 1 / 1 / 1 | {LOGIT_SCALE} (number above 0) |" in outcome["settings"]
    assert outcome["scaled"]
    assert outcome["choices"]["training"]["logit_scale"] == 1.0
    assert "SETTINGS" in (copy / "docs" / "settings.md").read_text()
