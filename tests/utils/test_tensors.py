import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_tl_bench.utils.errors import CheckpointError, RecordError
from spectral_tl_bench.utils.tensors import load_weights, restore, save_weights, trained_state
from spectral_tl_bench.utils.weight_metadata import fingerprint


class Shared(nn.Module):
    """A frozen pretrained layer, and one module under two names."""

    def __init__(self):
        super().__init__()
        self.pretrained = nn.Linear(3, 3).requires_grad_(False)
        self.first = nn.Linear(3, 2)
        self.second = self.first


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Shared()


def pretrained(module):
    return frozenset(id(p) for p in module.pretrained.parameters())


def test_shared_modules_are_kept_once_and_restored_everywhere(module, tmp_path):
    state = trained_state(module, pretrained(module))
    assert sorted(state) == ["first.bias", "first.weight"]
    save_weights(tmp_path / "w.safetensors", state, {"sensor": "ohs"})
    loaded, metadata = load_weights(tmp_path / "w.safetensors")
    assert metadata == {"sensor": "ohs"}
    other = Shared()
    restore(other, loaded, pretrained(other), "the test")
    assert torch.equal(other.second.weight, module.first.weight)


def test_saved_state_does_not_follow_further_training(module):
    state = trained_state(module, pretrained(module))
    with torch.no_grad():
        module.first.weight.add_(1)
    assert not torch.equal(state["first.weight"], module.first.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("first.bias"), "lacks first.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown tensor extra"),
        (lambda s: s.update({"first.bias": torch.zeros(7)}), "another shape of first.bias"),
    ],
)
def test_weights_of_another_model_are_refused(module, change, message):
    state = trained_state(module, pretrained(module))
    change(state)
    with pytest.raises(CheckpointError, match=message):
        restore(module, state, pretrained(module), "w.safetensors")


def test_files_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no file of weights"):
        load_weights(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="not readable"):
        load_weights(tmp_path / "broken.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="not written by a run"):
        load_weights(tmp_path / "foreign.safetensors")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(RecordError, match="cannot write"):
        save_weights(target, {"a": torch.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == [target]


def test_fingerprint_follows_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"2")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")
