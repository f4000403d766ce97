import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from run_records import spec

from spectral_tl_bench.config.presets import DEFAULT_BACKBONE, PRESETS, override, preset
from spectral_tl_bench.config.spec import RunSpec, TrainingSpec
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError


def test_importing_specifications_and_reports_needs_no_torch():
    code = (
        "import sys, spectral_tl_bench.config.spec, spectral_tl_bench.records.metrics, spectral_tl_bench.records.run;"
        "import spectral_tl_bench.report.leaderboard, spectral_tl_bench.report.tables;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchgeo', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_preset_has_a_default_backbone():
    assert set(PRESETS) == set(DEFAULT_BACKBONE)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    training = preset(name)
    assert TrainingSpec.model_validate_json(training.model_dump_json()) == training


def test_reference_is_the_published_set_up():
    reference = preset("reference")
    assert (reference.image_size, reference.reconstruction_steps, reference.segmentation_steps) == (224, 25_000, 45_000)
    assert (reference.reconstruction_batch_size, reference.batch_size, reference.learning_rate) == (24, 32, 1e-4)
    assert (reference.schedule, reference.radiometry, reference.selection) == ("constant", "minmax", "last")


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'standard'"):
        preset("standart")


def test_override_converts_text_and_leaves_the_rest():
    changed = override(PRESETS["quick"], {"batch_size": "4", "augmentation": "false", "learning_rate": "3e-4"})
    assert (changed.batch_size, changed.augmentation, changed.learning_rate) == (4, False, 3e-4)
    assert changed.image_size == PRESETS["quick"].image_size
    assert PRESETS["quick"].batch_size != 4


def test_override_names_the_nearest_option():
    with pytest.raises(UnknownNameError, match="did you mean 'batch_size'"):
        override(PRESETS["quick"], {"batchsize": "4"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", "many"),
        ("batch_size", "0"),
        ("label_fraction", "1.5"),
        ("mask_ratio", "1"),
        ("learning_rate", "nan"),
        ("learning_rate", "inf"),
        ("sampler", "random"),
        ("reconstruction_decoder_heads", "5"),
        ("scoring", "reference"),
        ("validations", "100000"),
    ],
)
def test_override_refuses_values_that_do_not_suit_in_one_line(name, value):
    with pytest.raises(SpectralBenchError, match=name) as caught:
        override(PRESETS["quick"], {name: value})
    assert "\n" not in str(caught.value)


def test_specifications_are_frozen_and_refuse_unknown_keys():
    with pytest.raises(ValidationError):
        spec().seed = 1
    with pytest.raises(ValidationError, match="device"):
        spec(device="cpu")


def test_the_folder_names_protocol_method_backbone_seed_and_digest():
    run = spec(seed=3)
    assert run.folder == Path("whu_region/s2t") / f"lora-vit_micro-s3-{run.digest}"


def test_the_folder_of_a_users_method_takes_the_class_name():
    run = spec(method="some/where/bias.py:BiasTuning", method_source="ab12")
    assert run.folder.name.startswith("BiasTuning-vit_micro-s0-")


@pytest.mark.parametrize("protocol", ["../../etc/x", "/etc", "mine/a b", "mine/.hidden", "mine/", "mine/ä:*"])
def test_the_folder_stays_below_the_runs_whatever_the_protocol_is_called(protocol):
    folder = spec(protocol=protocol).folder
    assert not folder.is_absolute()
    assert not any(part.startswith(".") or set(part) & set(' :*"<>|\\') for part in folder.parts)


def test_the_digest_is_the_same_in_every_process_and_version():
    training = TrainingSpec(
        image_size=64,
        batch_size=8,
        reconstruction_batch_size=8,
        reconstruction_steps=100,
        segmentation_steps=200,
        learning_rate=1e-3,
        reconstruction_learning_rate=1e-4,
        decoder_channels=64,
        neck_channels=64,
        reconstruction_decoder_width=96,
        reconstruction_decoder_depth=2,
        reconstruction_decoder_heads=3,
        validations=4,
    )
    # A literal: a change here means that every run of every user counts as another run.
    assert spec(training=training).digest == "6d7c36e30d"


def test_the_digest_survives_json_and_ignores_the_order_of_options():
    run = spec(method_options={"rank": 8, "alpha": 16.0, "blocks": (1, 2)})
    assert RunSpec.model_validate_json(run.model_dump_json()) == run
    assert RunSpec.model_validate_json(run.model_dump_json()).digest == run.digest
    assert spec(method_options={"blocks": [1, 2], "alpha": 16.0, "rank": 8}).digest == run.digest


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"protocol_digest": "other"},
        {"data": "other"},
        {"simulated": True},
        {"method_options": {"alpha": 16.0, "rank": 4}},
        {"method_source": "other"},
        {"weights": "hub"},
        {"stage1": "sha256:1"},
        {"training": override(PRESETS["quick"], {"batch_size": 4})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_result_changes_the_digest(change):
    assert spec(**change).digest != spec().digest


def test_moving_a_users_method_file_does_not_change_the_digest():
    here, there = (spec(method=f"{folder}/bias.py:Bias", method_source="ab12") for folder in ("here", "there"))
    assert here.digest == there.digest


def test_options_that_json_cannot_hold_are_refused():
    with pytest.raises(ValidationError, match="method_options"):
        spec(method_options={"path": Path("x")})
    with pytest.raises(ValidationError, match="method_options"):
        spec(method_options={"rate": float("nan")})


def test_the_digest_leaves_out_what_changes_no_result():
    run = spec(method_options={"rank": 8, "alpha": 16.0}, method_defaults=("alpha",))
    assert spec(method_options={"rank": 8}).digest == run.digest
    assert (
        spec(method_options={"rank": 8, "alpha": 16.0, "later": 1}, method_defaults=("alpha", "later")).digest
        == run.digest
    )
    assert spec(method_options={"rank": 8, "alpha": 4.0}).digest != run.digest
    assert run.model_copy(update={"preset": "standard"}).digest == run.digest


def test_a_setting_at_its_default_is_not_in_the_digest():
    """So that a setting which a later version adds makes no finished run another run."""
    run = spec()
    content = run.model_dump(mode="json")
    for name, field in TrainingSpec.model_fields.items():
        if not field.is_required() and content["training"][name] == field.default:
            del content["training"][name]
    assert RunSpec.model_validate(content).digest == run.digest


@pytest.mark.parametrize("seam", ["decoder", "loss", "sampler"])
def test_a_users_file_enters_the_digest_by_its_content_not_its_place(seam):
    def run(folder, source):
        training = override(preset("quick"), {seam: f"{folder}/own.py:Own"})
        return spec(training=training, sources={seam: source}).digest

    assert run("here", "ab") == run("there", "ab") != run("here", "cd")


def test_what_saves_memory_is_in_the_digest_only_where_it_changes_the_result():
    def digest(**changes):
        return spec().model_copy(update={"training": override(spec().training, changes)}).digest

    assert digest(activation_checkpointing=True) == digest()
    assert digest(accumulation=2) != digest()


def test_accumulation_cuts_a_batch_into_equal_parts():
    with pytest.raises(SpectralBenchError, match="accumulation 3 does not divide batch_size 8"):
        override(PRESETS["quick"], {"accumulation": 3})


def test_precisions_that_are_not_offered_are_refused_by_name():
    with pytest.raises(SpectralBenchError, match="'32-true' or 'bf16-mixed'"):
        override(PRESETS["quick"], {"precision": "16"})
