"""Files that a method shows of its own parts: in the run's folder, none of the run's own, never the end of a run."""

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from spectral_tl_bench.methods import Method
from spectral_tl_bench.runs.diagnostics import write_diagnostics
from spectral_tl_bench.utils.runtime import RuntimeOptions


@dataclass
class Shows(Method):
    """Shows what it is told to."""

    files: object = None

    def adapt(self, backbone):
        """Change nothing."""

    def diagnostics(self, backbone, images, heading):
        if isinstance(self.files, Exception):
            raise self.files
        return self.files


def written(folder, files):
    """What was said, and every file below the folder's parent."""
    said = io.StringIO()
    write_diagnostics(Shows(files), None, {}, "title", folder, RuntimeOptions(console=Console(file=said, width=1000)))
    return said.getvalue(), {p.relative_to(folder.parent).as_posix() for p in folder.parent.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("precious")
    return folder


def test_files_with_plain_names_are_written_and_replaced(folder):
    for content in (b"first", b"second"):
        said, files = written(folder, {"a.png": content, "[red].csv": b""})
        assert said == ""
        assert files == {"run/run.json", "run/a.png", "run/[red].csv"}
        assert (folder / "a.png").read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../run.json",
        "/tmp/x",
        "a/b",
        "",
        ".",
        "..",
        "run.json",
        "adapter.safetensors",
        ".lock",
        "a\x00b",
        "x" * 300,
        "checkpoint-segmentation-000000001.pt",
        "scores.jsonl",
        "a\\..\\b",
        3,
        None,
    ],
)
def test_a_file_that_is_not_the_methods_own_costs_a_note_and_nothing_else(folder, name):
    said, files = written(folder, {"a.png": b"a", name: b"x"})
    assert said.startswith("  note: Shows shows nothing of its parts")
    assert said.count("\n") == 1
    assert files <= {"run/run.json", "run/a.png"}
    assert (folder / "run.json").read_text() == "precious"


def test_a_link_out_of_the_folder_is_not_followed(folder):
    (folder / "a.png").symlink_to(folder.parent / "elsewhere")
    said, files = written(folder, {"a.png": b"x"})
    assert "link out of the run's folder" in said
    assert files == {"run/run.json"}


@pytest.mark.parametrize("files", [ZeroDivisionError("[/]"), None, 3, {"a.png": "text"}, {"a.png": None}], ids=repr)
def test_a_method_that_fails_to_show_anything_costs_a_note(folder, files):
    said, there = written(folder, files)
    assert "nothing of its parts" in said
    assert there == {"run/run.json"}
