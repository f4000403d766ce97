"""A folder with what a person might name by mistake: tiles, protocols, runs, and files of every wrong kind."""

import pickle

import pytest
from archives import random_image, utm, write_own_tiles, write_tif
from command_line import command, content
from place import PLUGINS, PROTOCOL, TINY, Evil
from run_records import spec, write

from spectral_tl_bench.cli.main import main


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The folder; what tests refuse must leave it as it is."""
    folder = tmp_path_factory.mktemp("place")
    write_own_tiles(folder / "own")
    (folder / "villages.yaml").write_text(PROTOCOL)
    write_tif(folder / "scene.tif", random_image(4, size=20, dtype="int16"), **utm())
    write_tif(folder / "three.tif", random_image(3, size=20, dtype="int16"), **utm())
    write_tif(folder / "nowhere.tif", random_image(4, size=20, dtype="int16"))
    for name, text in PLUGINS.items():
        (folder / name).write_text(text)
    for name in (
        "folder",
        "folder.yaml",
        "folder.py",
        "folder.tif",
        "folder.pth",
        "index/index.html",
        "readme/README.md",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "theirs").mkdir()
    (folder / "theirs" / "index.html").write_text("precious")
    (folder / "theirs" / "README.md").write_text("precious")
    (folder / "small.yaml").write_text(
        "{title: small, methods: [lora], protocols: [villages.yaml], preset: quick, weights: [none]}"
    )
    (folder / "broken.yaml").write_text("a: [")
    (folder / "latin.yaml").write_bytes("title: größe".encode("latin-1"))
    (folder / "[red].yaml").write_text("[/]: [")
    (folder / "evil.pth").write_bytes(pickle.dumps(Evil()))
    write(folder / "runs", spec())
    write(folder / "runs", spec(method="frozen", method_options={}))
    return folder


@pytest.fixture(scope="session")
def finished(place, tmp_path_factory):
    """The folder of a run that can map scenes, beside the place."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    arguments = ["run", "--method", "frozen", "--protocol", place / "villages.yaml", "--root", place / "own"]
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in (*arguments, "--preset", "quick", "--weights", "none", "--out", out, *TINY)])
    assert not done.value.code
    (config,) = out.rglob("run.yaml")
    return config.parent


@pytest.fixture
def bench(capfd, monkeypatch, place):
    """Run a command in the place."""
    monkeypatch.chdir(place)
    return lambda *arguments: command(capfd, *arguments)


@pytest.fixture
def unharmed(bench, place, finished):
    """Run a command that must be refused, execute nothing, and leave place and finished run as they are."""

    def ask(*arguments):
        before = content(place), content(finished)
        result = bench(*arguments)
        assert (content(place), content(finished)) == before
        assert not list(place.rglob("EXECUTED"))
        return result

    return ask
