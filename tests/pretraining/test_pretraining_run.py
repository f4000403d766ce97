"""Pretraining as a whole: weights that runs take or refuse, the same again after an interruption."""

import contextlib
import dataclasses
import io
import json
import re
import signal
from pathlib import Path

import pytest
import torch
from command_line import command, content, refused
from pretraining_setup import TINIEST, planned
from rich.console import Console
from safetensors.torch import load_file, save_file
from tiny_run import TINIEST as TINY_RUN

from spectral_tl_bench.backbones import backbone_entry, build_backbone
from spectral_tl_bench.cli.main import main
from spectral_tl_bench.pretraining.archives import PretrainingData
from spectral_tl_bench.pretraining.planning import build
from spectral_tl_bench.pretraining.recipes import recipe, shipped_recipes
from spectral_tl_bench.pretraining.run import pretrain, train
from spectral_tl_bench.pretraining.tasks import pretraining_task
from spectral_tl_bench.records.pretraining import read_pretraining
from spectral_tl_bench.runs.planning import plan as plan_run
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.training.checkpoints import Checkpoints
from spectral_tl_bench.utils.errors import CheckpointError, InterruptedRunError, SpectralBenchError
from spectral_tl_bench.utils.interruption import Interruption
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import save_weights


@pytest.fixture(scope="module")
def plans(archives):
    made = {name: planned(name, archives) for name in ("specaware_micro", "spectral_mae_micro")}
    return {**made, "paths": archives}


@pytest.fixture(scope="module")
def source(archives, tmp_path_factory):
    """Weights from the source of a protocol and from another archive, as the command makes them; and what it says."""
    path = tmp_path_factory.mktemp("pretrained") / "source.safetensors"
    arguments = [
        "pretrain",
        "spectral_mae_micro",
        "--protocol",
        "mts12_region/n2s",
        "--out",
        str(path),
        "--device",
        "cpu",
    ]
    arguments += ["--half", *(f"--archive={name}={root}" for name, root in archives)]
    arguments += [f"--train={name}={value}" for name, value in TINIEST.items()]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit, match="0"):
        main(arguments)
    ready = planned("spectral_mae_micro", archives, protocols=("mts12_region/n2s",))
    return path, ready, said.getvalue()


def test_weights_a_record_and_pictures_lie_side_by_side(source):
    path, ready, said = source
    names = {p.name for p in path.parent.iterdir()}
    assert names == {"source.safetensors", "source.json", "source-1-mts12.png", "source-2-dfc2020.png"}
    assert "SIMULATED mts12:" in said
    assert "source of mts12_region/n2s" in said
    assert "pretraining: step 4/4" in said
    record = read_pretraining(path)
    written = json.loads(path.with_suffix(".json").read_text())
    assert record.spec == ready.spec
    assert [row["step"] for row in written["history"]] == [1, 2, 3, 4]
    assert record.spec.title.startswith("SIMULATED: spectral_mae_micro pretrained on mts12, dfc2020")
    mts12, dfc2020 = record.spec.archives
    # Every tile that trained, by name and content, and none that was left out.
    assert not set(mts12.tiles) & set(mts12.left_out)
    assert len(dfc2020.tiles) + len(dfc2020.left_out) == len(ready.archives[1].dataset)
    assert all(len(digest) > 8 for digest in mts12.tiles.values())
    assert len(record.errors) == 2


def test_a_backbone_takes_the_weights_completely(source):
    path, ready, _ = source
    backbone = build_backbone("spectral_mae_micro", OHS, str(path))
    state = load_file(path)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert torch.equal(backbone.blocks[3].mlp.fc1.weight, state["blocks.3.mlp.fc1.weight"].float())
    assert not backbone.drawn
    _, fresh = build(ready)
    assert not torch.equal(backbone.blocks[3].mlp.fc1.weight, fresh.blocks[3].mlp.fc1.weight)


def run_with(weights, root, protocol):
    (request,) = requests(
        "lora",
        protocol,
        root=root,
        preset_name="quick",
        backbone="spectral_mae_micro",
        weights=str(weights),
        training=TINY_RUN,
    )
    return plan_run(request)


def test_a_run_takes_weights_of_its_source_and_refuses_those_that_saw_what_tests_it(source, archives):
    path, *_ = source
    root = archives[0][1]
    assert run_with(path, root, "mts12_region/n2s").spec.weights.startswith("sha256:")
    with pytest.raises(
        CheckpointError, match=r"pretrained on mts12, \d+ tiles of which .*--protocol mts12_region/s2n"
    ) as e:
        run_with(path, root, "mts12_region/s2n")
    assert e.value.exit_status == 2
    assert "\n" not in str(e.value)
    # Renamed files are the same images: the other archive's tiles test this protocol.
    with pytest.raises(CheckpointError, match="pretrained on dfc2020"):
        run_with(path, archives[1][1], "dfc_season/spring")


def test_what_weights_started_from_had_seen_they_have_seen(source, archives, tmp_path):
    path, first, _ = source
    ready = planned("spectral_mae_micro", archives[1:], init=str(path))
    assert ready.spec.inherited == first.spec.archives
    model, _ = build(ready)
    record = read_pretraining(path).model_copy(update={"spec": ready.spec})
    save_weights(tmp_path / "later.safetensors", model.state_dict(), record.model_dump(mode="json"))
    with pytest.raises(CheckpointError, match="pretrained on mts12"):
        run_with(tmp_path / "later.safetensors", archives[0][1], "mts12_region/s2n")


def test_weights_of_somebody_else_are_nobodys_leak(tmp_path, archives):
    entry = backbone_entry("spectral_mae_micro")
    save_file({k: v.contiguous() for k, v in entry.make(3).state_dict().items()}, tmp_path / "theirs.safetensors")
    assert read_pretraining(tmp_path / "theirs.safetensors") is None
    assert run_with(tmp_path / "theirs.safetensors", archives[0][1], "mts12_region/s2n").spec.weights


class After(Interruption):
    """Asks the process to end when so many steps are done."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def end_if_requested(self, place):
        self.looks -= 1
        if self.looks == 0:
            raise InterruptedRunError(signal.SIGTERM, place)

    @property
    def requested(self):
        return self.looks <= 1


CPU = RuntimeOptions(device="cpu")


def test_going_on_gives_the_same_weights_as_never_stopping(plans, tmp_path):
    """With dropout in it, whose draws must be those of a run that never stopped."""
    ready = plans["specaware_micro"]
    (tmp_path / "whole").mkdir()
    whole = train(ready, Checkpoints(tmp_path / "whole", "digest"), CPU).model.state_dict()
    with pytest.raises(InterruptedRunError):
        train(
            ready,
            Checkpoints(tmp_path, "digest"),
            dataclasses.replace(CPU, checkpoint_minutes=0, interruption=After(3)),
        )
    said = Console(file=io.StringIO())
    going_on = train(ready, Checkpoints(tmp_path, "digest"), dataclasses.replace(CPU, console=said))
    assert "resumes at step 3/4" in said.file.getvalue()
    assert [row["step"] for row in going_on.history] == [1, 2, 3, 4]
    for name, tensor in going_on.model.state_dict().items():
        assert torch.equal(tensor, whole[name])


def test_weights_that_are_there_are_not_made_again_nor_replaced(source, archives):
    path, ready, _ = source
    before, said = content(path.parent), Console(file=io.StringIO())
    pretrain(ready, path, dataclasses.replace(CPU, console=said))
    assert "already there" in said.file.getvalue()
    other = dataclasses.replace(ready, spec=ready.spec.model_copy(update={"seed": 1}))
    with pytest.raises(SpectralBenchError, match="holds other weights"):
        pretrain(other, path, CPU)
    assert content(path.parent) == before


def test_batches_hold_one_archive_each_and_the_seed_draws_them(plans):
    ready = plans["spectral_mae_micro"]

    data = PretrainingData(ready.archives, ready.spec.training, seed=0)

    def batches(seed):
        data.seed = seed
        return [(set(batch["archive"].tolist()), batch["tile"]) for batch in data.train_dataloader()]

    first = batches(0)
    assert [archive for archive, _ in first] == [{0}, {1}, {0}, {1}]
    assert first == batches(0)
    assert first != batches(1)


@pytest.mark.parametrize("backbone", ["vit_micro", "spectral_mae_micro", "specaware_micro"])
def test_the_loss_falls_on_a_tiny_archive(plans, backbone):
    ready = plans.get(backbone) or planned(backbone, plans["paths"][1:])
    data = PretrainingData(ready.archives[-1:], ready.spec.training, seed=0)
    batch = next(iter(data.train_dataloader()))
    archive = data.archives[0]
    images = archive.radiometry(archive.tiles.to_reflectance(batch["image"]))
    _, built = build(ready)
    task = pretraining_task(built, ready.sensors, ready.spec.training)
    task.archive = len(ready.sensors) - 1
    hidden = torch.tensor([[False, True, True, True]] * 4)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        torch.manual_seed(0)
        with task.seeing():
            loss = task.error(images, hidden, hidden)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The same images, the same patches hidden: nothing but learning changes it.
    assert losses[-1] < 0.9 * losses[0]


def test_blocks_start_from_a_masked_autoencoder(archives):
    embedded = load_file(backbone_entry("vit_micro").file("embedded"))
    for name in ("specaware_micro", "spectral_mae_micro"):
        ready = planned(name, archives, init="vit_micro")
        model, _ = build(ready)
        assert torch.equal(model.blocks[5].attn.qkv.weight, embedded["blocks.5.attn.qkv.weight"].float())
        assert ready.spec.init.startswith("vit_micro sha256:")
    grey = embedded["patch_embed.proj.weight"].float().sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.patch_embed.proj.weight.data, grey)
    assert torch.equal(model.pos_embed, backbone_entry("spectral_mae_micro").make(3).pos_embed)


def test_shipped_recipes_are_recipes_of_backbones_that_are_there():
    assert set(shipped_recipes()) == {"specaware_micro", "spectral_mae_micro"}
    for name in shipped_recipes():
        assert recipe(name, {}).backbone == name
    assert recipe("specaware_micro", {"train": {"mask_ratio": "0.5"}, "seed": 3}).seed == 3


@pytest.fixture(scope="module")
def refuse(archives, tmp_path_factory):
    """Run a command that must be refused and must leave the folder as it was."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "other.safetensors").write_bytes(b"precious")
    (folder / "bad.yaml").write_text("backbone: vit_micro\nsteps: 3\n")
    save_file({"blocks.0.norm1.weight": torch.ones(3)}, folder / "thin.safetensors")

    def run(capfd, arguments, *parts):
        known = {"mts12": archives[0][1], "dfc2020": archives[1][1], "folder": folder}
        before = content(folder)
        given = [argument.format(**known) for argument in arguments.split()]
        refused(command(capfd, "pretrain", *given), *parts)
        assert content(folder) == before

    return run


MTS12 = "--archive mts12={mts12}"
OUT = "--out {folder}/w.safetensors"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (f"vit_micro {MTS12}", ["--out"]),
        (f"{MTS12} {OUT}", ["BACKBONE", "--config"]),
        (f"specaware_micr {MTS12} {OUT}", ["did you mean 'specaware_micro'"]),
        (f"specaware_micro --archive mts12 {OUT}", ["NAME=DIR"]),
        (f"specaware_micro --archive mts21={{mts12}} {OUT}", ["mts21", "did you mean 'mts12'"]),
        (f"specaware_micro --archive mts12=/nowhere {OUT}", ["/nowhere"]),
        (f"specaware_micro {MTS12} --protocol dfc_season/spring {OUT}", ["dfc2020", "--archive"]),
        (f"specaware_micro {MTS12} --protocol mts12_region/n2s --protocol mts12_region/s2n {OUT}", ["no tile", "n2s"]),
        (f"vit_micro {MTS12} --archive dfc2020={{dfc2020}} {OUT}", ["by their place", "sentinel2"]),
        (f"specaware_micro {MTS12} --init {{folder}}/thin.safetensors {OUT}", ["--init", "blocks.0"]),
        (f"specaware_micro {MTS12} --init {{folder}}/none.pth {OUT}", ["no weights file"]),
        (f"specaware_micro {MTS12} --train steps=4 {OUT}", ["training option", "steps"]),
        (f"specaware_micro {MTS12} --train image_size=20 {OUT}", ["multiple of the 8 px"]),
        (f"vit_micro {MTS12} --train band_dropping=0.5 {OUT}", ["vit_micro", "leave band_dropping out"]),
        (f"specaware_micro {MTS12} --simulated-seed 2 {OUT}", ["without --archive"]),
        (f"specaware_micro --simulated-seed 0 {OUT}", ["tested on", "1 or more"]),
        (f"specaware_micro --simulated mars {OUT}", ["mars"]),
        (f"--config {{folder}}/bad.yaml {OUT}", ["bad.yaml", "steps"]),
        (f"--config no_such {OUT}", ["recipe", "specaware_micro"]),
        (f"specaware_micro {MTS12} --out {{folder}}/w.pth", ["ends in .safetensors"]),
        (f"specaware_micro {MTS12} --out {{folder}}/other.safetensors", ["there already", "--force"]),
        (f"specaware_micro {MTS12} --device tpu {OUT}", ["no device tpu"]),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_before_anything_is_written(refuse, capfd, arguments, parts):
    refuse(capfd, arguments, *parts)


def test_the_recipe_of_the_documentation_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "pretrain.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my_recipe.yaml").write_text(block)
    assert recipe(str(tmp_path / "my_recipe.yaml"), {"train": {"mask_ratio": "0.5"}}).train == {
        "reconstruction_steps": 3000,
        "reconstruction_batch_size": 32,
        "mask_ratio": "0.5",
    }
