import re
from pathlib import Path

import pytest

from spectral_tl_bench.cli.listings import settings_markdown
from spectral_tl_bench.config.presets import PRESETS, override
from spectral_tl_bench.config.settings import settings
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.utils.errors import SpectralBenchError

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
EACH = pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)


def test_every_setting_is_listed_once_in_the_order_of_the_specification():
    assert [setting.name for setting in settings()] == list(TrainingSpec.model_fields)


@EACH
@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_listed_is_what_train_takes(setting, preset):
    same = override(PRESETS[preset], {setting.name: setting.presets[preset]})
    assert same == PRESETS[preset]


@EACH
def test_bounds_in_words_are_the_bounds(setting):
    for word, bound in re.findall(r"(above|from|below|to) ([\d.]+)", setting.values):
        beyond = {"above": 0, "below": 0, "from": -1, "to": 1}[word] + float(bound)
        with pytest.raises(SpectralBenchError, match=setting.name):
            override(PRESETS["quick"], {setting.name: f"{beyond:g}"})


@EACH
def test_its_meaning_is_a_whole_sentence_in_one_line(setting):
    assert setting.meaning.endswith(".")
    assert setting.meaning[0] in '"' or setting.meaning[0].isupper()
    assert "\n" not in setting.meaning


def test_the_page_is_what_the_command_prints():
    if not PAGE.is_file():
        pytest.skip("this is an installed copy, without docs")
    assert settings_markdown() in PAGE.read_text()
