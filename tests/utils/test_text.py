import pytest

from spectral_tl_bench.utils.text import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (4.2, "4 s"),
        (72, "72 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (3599, "1 h 00 min"),
        (3700, "1 h 02 min"),
        (200_000, "2 d 8 h"),
    ],
)
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words
