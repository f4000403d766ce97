"""The shipped protocols across sensors: who sees the target's bands as they are, who resampled, and who is refused."""

import numpy as np
import pytest
import torch
from small_models import FAMILIES, small_entry
from tiny_run import TINIEST

from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.cli.main import main
from spectral_tl_bench.prediction.restore import restore_run
from spectral_tl_bench.prediction.tile_maps import predict_tile
from spectral_tl_bench.records.titles import heading
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.sensors import OHS, SENTINEL2
from spectral_tl_bench.simulation import simulate_archive
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.runtime import RuntimeOptions

VISIBLE = SENTINEL2.subset(range(10))


@pytest.fixture(scope="session")
def both(tmp_path_factory):
    return simulate_archive("ohs_sentinel2", tmp_path_factory.mktemp("both") / "archive", tile_size=32, tiles=0.3)


def planned(root, method="lora", protocol="cross_sensor/ohs2s2", **choices):
    if method != "pixel_forest":
        choices |= {"preset_name": "quick", "training": TINIEST}
    (request,) = requests(method, protocol, root=root, **choices)
    return plan(request)


@pytest.mark.parametrize(
    ("method", "backbone", "how"),
    [
        ("lora", "vit_micro", "resampled"),
        ("lora", "dofa_b", "wavelengths"),
        ("frozen", "panopticon_b", "wavelengths"),
        ("full", "copernicusfm_b", "wavelengths"),
        ("ssf", "dofa_b", "resampled"),
        ("slr", "dofa_b", "resampled"),
        ("spectralx", "dofa_b", "resampled"),
        ("pixel_forest", None, "resampled"),
    ],
)
def test_a_run_says_how_its_model_sees_the_target(both, method, backbone, how):
    weights = None if backbone is None else "none"
    ready = planned(both, method, backbone=backbone, weights=weights)
    assert ready.spec.other_bands == how
    assert ready.dataset.sensor.wavelengths == OHS.wavelengths
    target = ready.dataset.read(int(ready.split.target[0]))["image"]
    assert len(target) == (10 if how == "wavelengths" else 32)
    assert {"resampled": "resampled", "wavelengths": "by wavelength"}[how] in heading(ready.spec)


def test_without_a_change_of_sensor_nothing_is_said(both):
    ready = planned(both, protocol="cross_sensor/s22s2")
    assert ready.spec.other_bands is None
    assert ready.dataset.sensor.wavelengths == VISIBLE.wavelengths
    assert "bands" not in heading(ready.spec)


def test_the_two_sensors_see_the_same_landscape(both):
    there, back = planned(both), planned(both, protocol="cross_sensor/s22ohs")
    tile = int(there.split.target[0])
    one, other = there.dataset.read(tile), back.dataset.read(tile)
    assert torch.equal(one["mask"], other["mask"])
    # Resampled to the other's bands and back to the eye: alike up to noise and what lies between Sentinel-2's bands.
    correlation = np.corrcoef(one["image"].mean(0).ravel(), other["image"].mean(0).ravel())[0, 1]
    assert correlation > 0.95


def test_what_cannot_be_made_is_refused_before_anything_is_written(both, tmp_path, capsys):
    protocol = tmp_path / "all13.yaml"
    protocol.write_text(
        "title: all\ndataset: ohs_sentinel2\nsource: {part: west, bands: ['33-45']}\n"
        "target: {part: east, bands: ['1-32']}\nby: place\n"
    )
    with pytest.raises(SpectralBenchError, match=r"S2 B10 of .* at 1373.5 nm cannot be made") as caught:
        planned(both, protocol=str(protocol))
    assert caught.value.exit_status == 2
    assert planned(both, protocol=str(protocol), backbone="dofa_b", weights="none").spec.other_bands == "wavelengths"
    out = tmp_path / "runs"
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--method", "lora", "--protocol", str(protocol), "--root", str(both), "--out", str(out)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(out.rglob("*.*"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backbone_sees_other_bands_as_one_built_for_them_or_refuses(name):
    entry = small_entry(name)
    torch.manual_seed(0)
    backbone = entry.build(OHS).eval()
    side = 2 * backbone.patch_size
    ohs, s2 = torch.rand(1, 32, side, side), torch.rand(1, 10, side, side)
    if not backbone_entry(name).from_wavelengths:
        with pytest.raises(SpectralBenchError, match="makes no tokens from wavelengths"), backbone.seeing(VISIBLE):
            pass
        return
    torch.manual_seed(0)
    built = entry.build(VISIBLE).eval()
    with torch.no_grad():
        before = backbone(ohs)
        with backbone.seeing(VISIBLE):
            seen = backbone(s2)
        torch.testing.assert_close(seen, built(s2))
        torch.testing.assert_close(backbone(ohs), before)


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "backbone"),
    [("frozen", "vit_micro"), ("frozen", "dofa_b"), ("frozen", "spectral_mae_micro"), ("pixel_forest", None)],
)
def test_a_run_across_sensors_scores_every_target_tile(both, tmp_path, method, backbone):
    weights = None if backbone is None else "none"
    ready = planned(both, method, backbone=backbone, weights=weights)
    run = execute(ready, tmp_path, RuntimeOptions(device="cpu"))
    assert run.record.spec.other_bands == ready.spec.other_bands
    counts = run.counts("target")
    assert counts["tile"].nunique() == len(ready.split.target)
    if backbone is not None:
        # The model as it is rebuilt sees the target as the run did.
        again = predict_tile(restore_run(run.folder), ready, int(ready.split.target[0]), torch.device("cpu"))
        recorded = counts[counts["tile"] == again.tile].groupby("prediction")["count"].sum().to_dict()
        labelled = again.prediction[again.truth != 255]
        assert recorded == dict(zip(*np.unique(labelled, return_counts=True), strict=True))
