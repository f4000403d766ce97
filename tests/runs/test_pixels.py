"""Models without a backbone: the same command, record and table."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from spectral_tl_bench import records
from spectral_tl_bench.methods import PixelModel, all_method_names, build_any_method, build_method, method_class
from spectral_tl_bench.records import read_run, read_run_yaml, write_run
from spectral_tl_bench.records.packing import pack_runs
from spectral_tl_bench.records.titles import heading
from spectral_tl_bench.runs.pixels import draw_pixels, predict_tile
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.sweeps.suite import Suite
from spectral_tl_bench.sweeps.sweep import _is_done
from spectral_tl_bench.utils.errors import RecordError, SpectralBenchError
from spectral_tl_bench.utils.runtime import RuntimeOptions

PIXEL_MODELS = [name for name in all_method_names() if issubclass(method_class(name), PixelModel)]
SMALL = {"pixels": "2000", "trees": "5"}

NEAREST_MEAN = '''\
from dataclasses import dataclass

from sklearn.neighbors import NearestCentroid

from spectral_tl_bench.methods import Classifier, PixelModel


@dataclass
class NearestMean(PixelModel):
    """Each pixel gets the class whose mean spectrum is nearest."""

    metric: str = "euclidean"

    def classifier(self, seed: int) -> Classifier:
        return NearestCentroid(metric=self.metric)
'''


@pytest.fixture
def run(whuohs_root, tmp_path):
    def make(out="runs", method="pixel_forest", options=SMALL, **changes):
        if "preset" in changes:
            changes["preset_name"] = changes.pop("preset")
        (request,) = requests(method, "whu_region/s2t", root=whuohs_root, options=options, **changes)
        return execute(plan(request), tmp_path / out, RuntimeOptions(device="cpu"))

    return make


def test_a_pixel_model_is_registered():
    assert "pixel_forest" in PIXEL_MODELS


@pytest.mark.parametrize("method", PIXEL_MODELS)
def test_every_pixel_model_runs_from_protocol_to_table(run, method):
    done = run(method=method, options={"pixels": "500"})
    spec = done.record.spec
    assert (spec.backbone, spec.weights, spec.preset) == ("none", "none", "none")
    assert set(done.record.stages) == {"fit", "scoring"}
    assert done.record.parameters_with_decoder.allocated == 0
    assert "scikit-learn" in done.record.provenance.packages
    assert {path.name for path in done.folder.iterdir()} == {
        "run.json",
        "run.yaml",
        "confusion.parquet",
        "table.csv",
        "table.md",
    }
    table = pd.read_csv(done.folder / "table.csv").set_index("domain")
    assert {"Jilin", "all targets", "held-out source", "gap to source"} <= set(table.index)
    assert (done.folder / "table.md").read_text().startswith(f"# SIMULATED: {method} on whu_region/s2t (seed 0)\n")


def test_it_scores_the_same_pixels_as_a_method_with_a_backbone(run):
    """Comparisons are paired by tile, so every tile's labels must count alike."""
    tiny = {"segmentation_steps": "1", "validations": "1", "decoder_channels": "8", "batch_size": "2"}
    forest = run()
    network = run(method="frozen", options={}, training=tiny, preset="quick")
    for part in ("target", "held_out_source"):
        truths = [
            done.counts(part).groupby(["tile", "subdomain", "truth"])["count"].sum() for done in (forest, network)
        ]
        truths = [truth[truth > 0] for truth in truths]
        pd.testing.assert_series_equal(*truths)


def test_it_learns_from_spectra(run):
    table = pd.read_csv(run().folder / "table.csv").set_index("domain")
    assert table.loc["held-out source", "OA"] > 40
    assert table.loc["all targets", "OA"] > 15


def test_the_same_seed_gives_the_same_counts_whatever_the_threads(run):
    first = run(out="a")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        second = run(out="b")
    finally:
        torch.set_num_threads(threads)
    pd.testing.assert_frame_equal(first.confusion, second.confusion)
    assert not first.confusion["count"].equals(run(out="c", seed=1).confusion["count"])


def test_presets_that_change_nothing_are_the_same_run_and_what_changes_it_is_not(run):
    digests = {
        run(preset=preset, training=training).record.spec.digest
        for preset, training in ((None, {}), ("quick", {}), ("standard", {}), ("standard", {"scoring": "native"}))
    }
    assert len(digests) == 1
    few = run(training={"label_fraction": "0.5"})
    assert few.record.spec.digest not in digests
    assert few.record.tiles.train < run().record.tiles.train
    labels = few.record.spec.labels
    assert labels.tiles == few.record.tiles.train
    assert labels.share == pytest.approx(0.5, abs=0.05)
    assert f"labels of {labels.tiles} tiles, {100 * labels.share:.3g} % of the training area" in heading(
        few.record.spec
    )


def test_one_percent_of_the_labels_is_less_than_two(run):
    one, two = (run(training={"label_fraction": share}).record.spec.labels for share in ("0.01", "0.02"))
    assert 0 < one.pixels < two.pixels
    assert (one.share, two.share) == (pytest.approx(0.01, rel=0.2), pytest.approx(0.02, rel=0.2))
    assert run().record.spec.labels is None


def test_reference_scoring_is_that_of_the_published_figures(run):
    done = run(preset="reference", training={"image_size": "16"})
    assert done.record.spec.training.scoring == "reference"
    assert done.counts().groupby("tile")["count"].sum().max() <= 16 * 16


def test_run_yaml_repeats_the_specification(run):
    done = run(seed=2)
    spec, where = read_run_yaml(done.folder / "run.yaml")
    assert spec == done.record.spec == read_run(done.folder).record.spec
    assert where.weights == "none"


def test_a_users_own_pixel_model_is_a_dataclass_in_a_file(run, tmp_path):
    path = tmp_path / "nearest.py"
    path.write_text(NEAREST_MEAN)
    done = run(method=f"{path}:NearestMean", options={"pixels": "1000", "metric": "manhattan"})
    assert done.record.spec.method_name == "NearestMean"
    assert done.record.spec.method_options == {"pixels": 1000, "metric": "manhattan"}
    assert done.record.spec.method_source is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vit_micro"}, "--backbone"),
        ({"weights": "none"}, "--weights"),
        ({"training": {"learning_rate": "1"}}, "learning_rate"),
        ({"options": {"pixels": "0"}}, "pixels"),
        ({"options": {"tree": "5"}}, "did you mean 'trees'"),
    ],
    ids=str,
)
def test_what_a_model_without_backbone_cannot_have_is_refused(run, changes, message):
    with pytest.raises(SpectralBenchError, match=message):
        run(**changes)
    with pytest.raises(SpectralBenchError, match="no backbone to adapt"):
        build_method("pixel_forest")


def test_a_suite_asks_for_it_once_however_many_backbones_and_weights_there_are():
    suite = Suite.model_validate(
        {
            "title": "t",
            "methods": ["pixel_forest", "frozen"],
            "protocols": ["whu_region/s2t"],
            "backbones": ["vit_micro", "vit_s_mae"],
            "weights": ["none", "embedded"],
            "train": {"segmentation_steps": 4, "label_fraction": 0.5},
        }
    )
    asked = list(suite.requests(None))
    (forest,) = (a for a in asked if a.choices.method == "pixel_forest")
    assert len(asked) == 5
    assert forest.choices.training.label_fraction == 0.5
    assert forest.choices.backbone == "none"


class Tiles:
    """Two tiles of 3 bands, whose first band is the label; one of them mostly without labels."""

    def read(self, position):
        mask = torch.full((8, 8), IGNORE_INDEX)
        mask[: 8 if position == 0 else 1] = position
        image = torch.rand(3, 8, 8)
        image[0] = mask
        return {"image": image, "mask": mask, "tile": str(position)}


def test_pixels_are_drawn_from_every_tile_and_carry_their_own_labels():
    spectra, labels = draw_pixels(Tiles(), [0, 1], 40, seed=0)
    assert (spectra[:, 0] == labels).all()
    assert np.bincount(labels).tolist() == [20, 8]
    assert spectra.dtype == np.float32


def test_a_prediction_has_the_shape_of_its_tile(monkeypatch):
    monkeypatch.setattr("spectral_tl_bench.runs.pixels._PIXELS_AT_ONCE", 7)
    spectra, labels = draw_pixels(Tiles(), [0, 1], 40, seed=0)
    classifier = RandomForestClassifier(5, random_state=0).fit(spectra, labels)
    image = np.zeros((3, 4, 5), dtype=np.float32)
    image[0, 1, 2] = 1
    found = predict_tile(classifier, image)
    assert found.shape == (4, 5)
    assert found.nonzero() == (np.array([1]), np.array([2]))


def test_hyper_parameters_are_recorded_and_typed():
    assert build_any_method("pixel_forest", {"pixels": "7"}).options()["pixels"] == 7


def test_its_record_says_which_code_started_it(run, monkeypatch):
    """What lies there when it has finished may be other code."""
    order = []

    def noting(owner, name):
        original = getattr(owner, name)

        def noted(*arguments, **keywords):
            order.append(name)
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, noted)

    noting(records, "provenance")
    noting(RandomForestClassifier, "fit")
    run()
    assert order == ["provenance", "fit"]


def test_a_packed_run_is_not_run_again_and_makes_no_folder(run, tmp_path):
    done = run()
    pack_runs(tmp_path / "runs", tmp_path / "packed")
    again = run(out="packed")
    assert again.record == done.record
    assert again.folder == tmp_path / "packed" / done.record.spec.folder
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == [
        "whu_region.parquet",
        "whu_region.runs.jsonl.gz",
    ]
    assert _is_done(again.folder)
    assert not _is_done(again.folder.with_name("another"))
    path = tmp_path / "packed" / "whu_region.runs.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert not _is_done(again.folder)
    assert run(out="packed").record.counts == done.record.counts


def test_a_damaged_run_is_run_again(run):
    done = run()
    path = done.folder / "run.json"
    path.write_bytes(path.read_bytes().replace(b'"best_step": 0', b'"best_step": 2'))
    with pytest.raises(RecordError, match="checksum"):
        read_run(done.folder)
    assert run().record.selected == done.record.selected
    path = done.folder / "confusion.parquet"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"PAR1", b"PAR2"))
    run()
    assert path.read_bytes() == sound
    # A file that the record names and that is not as it was written.
    history = done.folder / "history.csv"
    history.write_text("step,loss\n1,2\n")
    write_run(done.folder, done.record, done.confusion)
    history.write_text("step,loss\n1,3\n")
    before = (done.folder / "run.json").stat().st_mtime_ns
    run()
    assert (done.folder / "run.json").stat().st_mtime_ns > before
