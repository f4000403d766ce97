"""Checkpoints know which software wrote them."""

import pytest

from spectral_tl_bench.training.checkpoints import Checkpoints
from spectral_tl_bench.utils.errors import CheckpointError

OLD, NEW = {"torch": "2.0", "commit": "abc"}, {"torch": "2.1", "commit": "abc"}


def test_a_checkpoint_of_other_versions_is_refused_unless_asked_for(tmp_path):
    Checkpoints(tmp_path, "digest", OLD).save("segmentation", 3, {})
    with pytest.raises(CheckpointError, match=r"\(torch 2\.0, now 2\.1\).*--resume-across-versions"):
        Checkpoints(tmp_path, "digest", NEW).load("segmentation")
    accepted = Checkpoints(tmp_path, "digest", NEW, across_versions=True)
    assert accepted.load("segmentation")["step"] == 3
    assert accepted.resumed_from == [OLD]
    assert Checkpoints(tmp_path, "digest", OLD).load("segmentation")["step"] == 3


def test_the_record_of_a_third_process_names_the_first(tmp_path):
    Checkpoints(tmp_path, "digest", OLD).save("segmentation", 1, {})
    second = Checkpoints(tmp_path, "digest", NEW, across_versions=True)
    second.load("segmentation")
    second.save("segmentation", 2, {})
    third = Checkpoints(tmp_path, "digest", NEW)
    assert third.load("segmentation")["step"] == 2
    assert third.resumed_from == [OLD]
