"""Wrong usage of every command: one line that names what is wrong, exit status 2, and nothing changed.

A table a command; each row is what is typed and parts of the line that answers. ``{own}`` are tiles with a protocol.
"""

import shlex

import pytest
import torch
from command_line import content, refused

from spectral_tl_bench.cli.main import command_line

# As little training as can be, should one of these be let through.
SHORT = " ".join(f"--train {name}=1" for name in ("segmentation_steps", "reconstruction_steps", "validations"))
OWN = f"--protocol villages.yaml --root own --preset quick --weights none {SHORT} --train image_size=16"
LORA = f"run --method lora {OWN}"
TRAINING = [
    ("segmentation_steps", "name=value"),
    ("=3", "name=value"),
    ("stepz=3", "unknown training option 'stepz'"),
    ("segmentation_step=3", "did you mean 'segmentation_steps'"),
    ("segmentation_steps=0", "segmentation_steps"),
    ("segmentation_steps=", "segmentation_steps"),
    ("segmentation_steps=1.5", "segmentation_steps"),
    ("segmentation_steps=nan", "segmentation_steps"),
    ("learning_rate=0", "learning_rate"),
    ("learning_rate=nan", "learning_rate"),
    ("learning_rate=inf", "learning_rate"),
    ("learning_rate=fast", "learning_rate"),
    ("batch_size=-1", "batch_size"),
    ("image_size=0", "image_size"),
    ("mask_ratio=1", "mask_ratio"),
    ("validations=0", "validations"),
    ("validations=9999999", "validations 9999999 exceeds"),
    ("decoder=unet", "unknown decoder 'unet'"),
    ("decoder=missing.py:UNet", "missing.py"),
    ("decoder=raises.py:UNet", "raises.py fails on import"),
    ("loss=focl", "unknown loss"),
    ("loss=empty.py:focal", "defines no focal"),
    ("sampler=rare", "unknown sampler"),
    ("precision=16", "precision"),
    ("selection=oracle", "selection"),
    ("scoring=reference", "resolution=resize"),
    ("radiometry=none", "radiometry"),
    ("schedule=linear", "schedule"),
    ("upsample=9", "upsample"),
    ("resolution=both", "resolution"),
    ("reconstruction_decoder_heads=7", "does not divide"),
    ("held_out_fraction=1", "held_out_fraction"),
    ("label_fraction=2", "label_fraction"),
    ("augmentation=maybe", "augmentation"),
    ("weight_decay=-1", "weight_decay"),
    ("rotation_degrees=360", "rotation_degrees"),
]
OPTIONS = [
    ("rank", "name=value"),
    ("=4", "name=value"),
    ("rnk=4", "did you mean 'rank'"),
    ("rank=", "option rank of method lora"),
    ("rank=x", "option rank of method lora"),
    ("rank=1.5", "option rank of method lora"),
    ("rank=0", "rank"),
    ("rank=-1", "rank"),
    ("rank=nan", "rank"),
    ("[red]=1", "'[red]'"),
]
METHODS = [
    ("", "unknown method ''"),
    ("lorra", "did you mean 'lora'"),
    ("[red]", "unknown method '[red]'"),
    ("[/]", "unknown method '[/]'"),
    ("a\nb", "unknown method"),
    ("\x1b[31mred", "unknown method"),
    ("x" * 5000, "unknown method"),
    ("missing.py:LoRA", "there is no method file missing.py"),
    ("folder.py:LoRA", "there is no method file folder.py"),
    ("villages.yaml:LoRA", "unknown method"),
    ("empty.py:LoRA", "empty.py defines no LoRA"),
    ("empty.py:", "empty.py defines no"),
    ("syntax.py:LoRA", "syntax.py fails on import: SyntaxError"),
    ("null.py:LoRA", "null.py fails on import"),
    ("raises.py:LoRA", "raises.py fails on import: ZeroDivisionError"),
    ("exits.py:LoRA", "exits.py fails on import: SystemExit"),
    ("theirs.py:number", "is not a Method"),
    ("theirs.py:NoDataclass", "@dataclass"),
    ("theirs.py:Abstract", "theirs.py:Abstract cannot be made"),
    ("theirs.py:FailsToBeMade", "theirs.py:FailsToBeMade cannot be made", "KeyError"),
    ("theirs.py:StrangeOption", "theirs.py:StrangeOption cannot be made"),
]
DEVICES = ["gpu", "''", "cuda:0", "tpu", "CUDA", "'[red]'", *([] if torch.cuda.is_available() else ["cuda"])]
SEEDS = ["x", "-1", "1.5", "''", "4294967296", "99999999999999999999"]

COMMANDS = [
    ("rnu", "no such command 'rnu'"),
    ("RUN", "no such command 'RUN'"),
    ("''", "no such command ''"),
    ("'[red]'", "no such command '[red]'"),
    ("--nope", "--nope"),
    ("-x", "-x"),
    ("--debugg", "did you mean --debug"),
    ("--version=3", "--version"),
    ("data chek", "no such command 'chek'"),
    ("data ''", "no such command ''"),
    ("run run", "extra argument"),
    ("run --metod lora", "did you mean --method"),
    ("protocols all", "extra argument"),
    ("backbones vit_micro", "extra argument"),
    ("datasets whuohs", "extra argument"),
]
RUN = [
    ("run", "--method and --protocol"),
    ("run --method lora", "--protocol"),
    ("run --protocol whu_region/s2t", "--method"),
    *((f"run --method {shlex.quote(name)} {OWN}", *parts) for name, *parts in METHODS),
    ("run --method lora --protocol whu_regoin", "did you mean", "whu_region"),
    ("run --method lora --protocol ''", "unknown protocol ''"),
    ("run --method lora --protocol '[/]'", "unknown protocol '[/]'"),
    ("run --method lora --protocol whu_region:s2t", "unknown protocol"),
    ("run --method lora --protocol missing.yaml --root own", "missing.yaml", "No such file"),
    ("run --method lora --protocol folder.yaml --root own", "folder.yaml", "folder"),
    ("run --method lora --protocol broken.yaml --root own", "broken.yaml", "line 1"),
    ("run --method lora --protocol latin.yaml --root own", "latin.yaml", "utf-8"),
    ("run --method lora --protocol '[red].yaml' --root own", "[red].yaml"),
    ("run --method lora --protocol villages.yaml:nowhere --root own", "villages.yaml", "nowhere"),
    ("run --method lora --protocol villages.yaml", "--root"),
    ("run --method lora --protocol whu_region/s2t --root own", "own"),
    ("run --method lora --protocol whu_region/s2t --root missing", "there is no folder missing"),
    ("run --method lora --protocol villages.yaml --root villages.yaml", "there is no folder villages.yaml"),
    ("run --method lora --protocol villages.yaml --root folder", "tiles.csv"),
    ("run --method lora --protocol villages.yaml --root '[red]'", "there is no folder [red]"),
    ("run --method lora --protocol villages.yaml --root own --preset qick", "did you mean 'quick'"),
    ("run --method lora --protocol villages.yaml --root own --preset ''", "unknown preset ''"),
    (f"{LORA} --backbone vit", "unknown backbone 'vit'"),
    (f"{LORA} --backbone ''", "unknown backbone ''"),
    (f"{LORA} --backbone missing.py:TINY", "missing.py"),
    (f"{LORA} --backbone theirs.py:number", "no BackboneEntry"),
    (f"{LORA} --weights missing.pth", "missing.pth"),
    (f"{LORA} --weights folder.pth", "folder.pth"),
    (f"{LORA} --weights ''", "weights"),
    (f"{LORA} --backbone vit_s_mae --weights embedded", "no weights of vit_s_mae come with the package"),
    *((f"{LORA} --seed={seed}", "--seed") for seed in SEEDS),
    *((f"{LORA} --set={setting}", *parts) for setting, *parts in OPTIONS),
    *((f"{LORA} --train={setting}", *parts) for setting, *parts in TRAINING),
    (f"{LORA} --sampler rare", "unknown sampler 'rare'"),
    (f"{LORA} --label-fraction 0", "label_fraction"),
    (f"{LORA} --label-fraction 1.5", "label_fraction"),
    (f"{LORA} --label-fraction nan", "label_fraction"),
    (f"{LORA} --label-fraction x", "--label-fraction"),
    (f"{LORA} --stage1 runs/missing", "no reconstruction stage"),
    (f"run --method spectralx {OWN} --stage1 missing.safetensors", "missing.safetensors"),
    (f"run --method spectralx {OWN} --stage1 folder", "folder"),
    (f"run --method spectralx {OWN} --stage1 evil.pth", "evil.pth is not readable as safetensors"),
    ("run --config missing.yaml", "missing.yaml", "No such file"),
    ("run --config folder", "folder"),
    ("run --config folder.yaml", "folder.yaml"),
    ("run --config villages.yaml", "villages.yaml"),
    ("run --config broken.yaml", "broken.yaml", "line 1"),
    ("run --config scene.tif", "scene.tif"),
    ("run --config /dev/zero", "/dev/zero", "no ordinary file"),
    *(
        (f"run --config villages.yaml {option}", "--config repeats a run as it was", option.split()[0])
        for option in (
            "--method lora",
            "--protocol whu_region",
            "--set rank=4",
            "--train batch_size=2",
            "--preset quick",
            "--backbone vit_micro",
            "--weights none",
            "--seed 3",
            "--sampler class",
            "--label-fraction 0.5",
            "--stage1 x.safetensors",
        )
    ),
    (f"{LORA} --out villages.yaml", "villages.yaml", "--out"),
    (f"{LORA} --out villages.yaml/runs", "villages.yaml", "--out"),
    (f"{LORA} --out ''/dev/null", "/dev/null", "--out"),
    *((f"{LORA} --device={device}", "device") for device in DEVICES),
    (f"{LORA} --workers x", "--workers"),
    (f"{LORA} --workers -1", "--workers"),
    (f"{LORA} --maps x", "--maps"),
    (f"{LORA} --maps -1", "--maps"),
    (f"{LORA} --force=yes", "--force"),
    (f"run --method pixel_forest {OWN} --maps 1", "pixel_forest has no backbone: leave --weights out"),
    ("run --method pixel_forest --protocol villages.yaml --root own --maps 1", "--maps"),
    ("run --method pixel_forest --protocol villages.yaml --root own --backbone vit_micro", "leave --backbone out"),
    ("run --method pixel_forest --protocol villages.yaml --root own --train batch_size=2", "batch_size"),
]
SWEEP = [
    ("sweep", "missing argument"),
    ("sweep nothing", "unknown suite 'nothing'"),
    ("sweep ''", "unknown suite ''"),
    ("sweep '[/]'", "unknown suite '[/]'"),
    ("sweep missing.yaml", "missing.yaml", "No such file"),
    ("sweep folder.yaml", "folder.yaml"),
    ("sweep broken.yaml", "broken.yaml", "line 1"),
    ("sweep villages.yaml", "villages.yaml"),
    ("sweep a.yaml b.yaml", "extra argument"),
    ("sweep small.yaml --jobs 0", "--jobs"),
    ("sweep small.yaml --jobs x", "--jobs"),
    ("sweep small.yaml --device gpu", "device"),
    ("sweep small.yaml --engine condor", "unknown engine 'condor'"),
    ("sweep small.yaml --jobs 2 --engine ray", "--jobs is for --engine local"),
    ("sweep small.yaml --slurm partition", "write it as name=value"),
    ("sweep small.yaml --retries -1", "--retries"),
    ("sweep small.yaml --root missing", "missing"),
]
PREDICT = [
    ("predict", "missing argument 'run'"),
    ("predict {run}", "missing argument 'scene"),
    ("predict {run} scene.tif", "missing argument 'out"),
    ("predict {run} scene.tif map.tif surplus", "extra argument"),
    ("predict missing scene.tif map.tif", "missing", "no folder of runs"),
    ("predict villages.yaml scene.tif map.tif", "villages.yaml"),
    ("predict folder scene.tif map.tif", "folder is not the folder of a run"),
    ("predict '' scene.tif map.tif", "not the folder of a run"),
    ("predict {record} scene.tif map.tif", "no adapter.safetensors"),
    ("predict {run} missing.tif map.tif", "no scene missing.tif"),
    ("predict {run} folder.tif map.tif", "folder.tif is not a raster"),
    ("predict {run} villages.yaml map.tif", "villages.yaml is not a raster"),
    ("predict {run} '' map.tif", "raster"),
    ("predict {run} three.tif map.tif", "3 bands", "4"),
    ("predict {run} nowhere.tif map.tif", "--without-crs"),
    ("predict {run} scene.tif map.png", "map.png must end in .tif"),
    ("predict {run} scene.tif ''", "must end in .tif"),
    ("predict {run} scene.tif scene.tif", "is the scene itself"),
    ("predict {run} scene.tif three.tif", "three.tif exists", "--force"),
    ("predict {run} scene.tif folder.tif --force", "folder.tif"),
    ("predict {run} scene.tif villages.yaml/map.tif", "villages.yaml"),
    ("predict {run} scene.tif map.tif --confidence map.tif", "--confidence"),
    ("predict {run} scene.tif map.tif --confidence sure.png", "sure.png"),
    ("predict {run} scene.tif map.tif --confidence three.tif", "three.tif exists"),
    *(
        (f"predict {{run}} scene.tif map.tif --bands={bands}", "--bands")
        for bands in ("x", "0", "1-99", "4-1", "''", ",", "1,2", "'[red]'", "1,2,3,4,4", "²")
    ),
    *((f"predict {{run}} scene.tif map.tif --scale={scale}", "--scale") for scale in ("0", "-1", "nan", "inf", "x")),
    *((f"predict {{run}} scene.tif map.tif --device={device}", "device") for device in DEVICES),
    ("predict {run} scene.tif map.tif --weights missing.pth", "missing.pth"),
    ("predict {run} scene.tif map.tif --weights evil.pth", "evil.pth"),
    ("predict {run} scene.tif map.tif --weights ''", "weights"),
]
METHODS_COMMAND = [
    ("methods lora", "extra argument"),
    ("methods --json", "--params"),
    ("methods --gradients", "--params"),
    ("methods --sensor ohs", "--params"),
    ("methods --method lora", "--params"),
    ("methods --params --sensor sentinel", "did you mean 'sentinel2'"),
    ("methods --params --sensor ''", "unknown sensor ''"),
    ("methods --params --sensor missing.yaml", "missing.yaml"),
    ("methods --params --sensor broken.yaml", "broken.yaml"),
    ("methods --params --backbone vit_micor", "did you mean 'vit_micro'"),
    ("methods --params --backbone ''", "unknown backbone ''"),
    ("methods --params --preset qick", "did you mean 'quick'"),
    ("methods --params --method lorra", "did you mean 'lora'"),
    ("methods --params --method ''", "unknown method ''"),
    ("methods --params --method pixel_forest", "no backbone"),
    ("methods --params --set rank=4", "--method"),
    ("methods --params --method lora --set rank=x", "rank"),
    ("methods --params --method lora --set rank", "name=value"),
    (
        "methods --params --method theirs.py:FailsToAdapt",
        "FailsToAdapt fails to adapt",
        "first line [red]second[/] line",
    ),
]
RESULTS = [
    ("leaderboard --runs missing", "no folder of runs missing"),
    ("leaderboard --runs villages.yaml", "no folder of runs villages.yaml"),
    ("leaderboard --runs folder", "no complete run below folder"),
    ("leaderboard --runs '[/]'", "no folder of runs [/]"),
    ("leaderboard --against nobody", "--against nobody"),
    ("leaderboard --against ''", "--against"),
    ("leaderboard --out villages.yaml", "villages.yaml", "--out"),
    ("leaderboard --out theirs", "README.md", "--out"),
    ("leaderboard --out readme", "README.md"),
    ("leaderboard surplus", "extra argument"),
    ("show", "missing argument 'run'"),
    ("show nothing", "nothing: no folder"),
    ("show '[/]'", "[/]: no folder"),
    ("show 'a\nb'", "no folder"),
    ("show whu_region", "2 runs below runs"),
    ("show folder", "folder has no run.json"),
    ("show villages.yaml", "villages.yaml: no folder"),
    ("show lora --runs missing", "no folder of runs missing"),
    ("show ''", "run.json"),
    (f"show {'x' * 5000}", "xxx"),
    ("show lora frozen", "extra argument"),
    ("compare", "missing argument 'first'"),
    ("compare lora", "missing argument 'second'"),
    ("compare lora nobody", "no run of nobody"),
    ("compare '[red]' frozen", "no run of [red]"),
    ("compare '' frozen", "no run of"),
    ("compare lora lora", "lora and lora"),
    ("compare lora frozen --runs missing", "no folder of runs missing"),
    ("compare lora frozen --runs folder", "no run of lora"),
    ("report nothing", "nothing: no folder"),
    ("report --runs missing", "no folder of runs missing"),
    ("report --runs folder", "no complete run below folder"),
    ("report --out villages.yaml", "villages.yaml", "--out"),
    ("report --out theirs", "index.html", "--out"),
    ("report --out index", "index.html"),
    ("report lora --runs missing", "no folder of runs missing"),
]
DATA = [
    ("data simulate", "missing argument 'dataset'"),
    ("data simulate whuohs", "missing argument 'folder'"),
    ("data simulate whu new", "did you mean 'whuohs'"),
    ("data simulate '' new", "unknown archive ''"),
    ("data simulate whuohs own", "exists already"),
    ("data simulate whuohs villages.yaml", "exists already"),
    ("data simulate whuohs villages.yaml/new", "villages.yaml"),
    *((f"data simulate whuohs new --seed={seed}", "--seed") for seed in SEEDS),
    ("data simulate whuohs new --tile-size 7", "--tile-size"),
    ("data simulate whuohs new --tile-size x", "--tile-size"),
    ("data simulate whuohs new --tile-size 100000000", "tile"),
    ("data simulate whuohs new --tile-size 64 --real-size", "--real-size"),
    ("data check", "missing argument 'dataset'"),
    ("data check whuohs", "missing argument 'folder'"),
    ("data check whu own", "did you mean 'whuohs'"),
    ("data check tiles own", "protocol file"),
    ("data check whuohs missing", "missing"),
    ("data check whuohs villages.yaml", "villages.yaml"),
    ("data check whuohs own", "own"),
    ("data check missing.yaml own", "missing.yaml"),
    ("data check broken.yaml own", "broken.yaml"),
    ("data check villages.yaml folder", "tiles.csv"),
    ("data check villages.yaml villages.yaml", "tiles.csv"),
    ("data check '[red].yaml' own", "[red].yaml"),
    ("data index whu own", "did you mean 'whuohs'"),
    ("data index tiles own", "protocol file"),
    ("data index whuohs missing", "missing"),
    ("data index villages.yaml folder", "tiles.csv"),
    ("data index villages.yaml own --out folder", "folder"),
    ("data index villages.yaml own --out villages.yaml/index.parquet", "villages.yaml"),
    ("data download", "missing argument 'dataset'"),
    ("data download whu new", "did you mean 'whuohs'"),
    ("data download tiles new", "by hand"),
    ("data download whuohs villages.yaml", "villages.yaml"),
    ("data shift", "missing argument 'protocol'"),
    ("data shift whu_regoin", "did you mean", "whu_region"),
    ("data shift missing.yaml", "missing.yaml"),
    ("data shift villages.yaml", "--root"),
    ("data shift villages.yaml --root missing", "missing"),
    ("data shift villages.yaml --root own --out villages.yaml", "villages.yaml", "--out"),
    *((f"data shift villages.yaml --root own --seed={seed}", "--seed") for seed in SEEDS),
]

TABLE = [*COMMANDS, *RUN, *SWEEP, *PREDICT, *METHODS_COMMAND, *RESULTS, *DATA]


def commands():
    """Every command as it is typed, with its parameters."""
    for name, found in command_line().commands.items():
        for member, below in getattr(found, "commands", {}).items():
            yield f"{name} {member}", below
        if not hasattr(found, "commands"):
            yield name, found


EVERY_COMMAND = dict(commands())
VALUE_OPTIONS = [
    (name, option.opts[0])
    for name, found in EVERY_COMMAND.items()
    for option in found.params
    if option.param_type_name == "option" and not option.is_flag and option.name != "help"
]


@pytest.fixture
def asked(bench, place, request, monkeypatch):
    """Run what is typed and check that every file is as it was."""
    # No hub: nobody shall wait for a network, and no test shall need one.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    def ask(typed):
        places = {}
        if "{run}" in typed:
            places["{run}"] = str(request.getfixturevalue("finished"))
        if "{record}" in typed:
            places["{record}"] = str(next((place / "runs").rglob("run.json")).parent)
        arguments = [places.get(word, word) for word in shlex.split(typed)]
        before = content(place)
        result = bench(*arguments)
        assert content(place) == before
        return result

    return ask


def test_the_table_is_long_and_nothing_stands_in_it_twice():
    assert len({typed for typed, *_ in TABLE}) == len(TABLE) >= 250


@pytest.mark.parametrize(("typed", "parts"), [(t, p) for t, *p in TABLE], ids=[t[:90] for t, *_ in TABLE])
def test_wrong_usage_is_one_line_and_changes_nothing(asked, typed, parts):
    refused(asked(typed), *parts)


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_an_option_that_no_command_has_is_named(asked, name):
    refused(asked(f"{name} --no-such-option"), "--no-such-option", f"spectral-bench {name} --help")


@pytest.mark.parametrize(("name", "option"), VALUE_OPTIONS, ids=[" ".join(pair) for pair in VALUE_OPTIONS])
def test_an_option_without_its_value_is_named(asked, name, option):
    refused(asked(f"{name} {option}"), option, "requires an argument")


def test_an_argument_with_nul_or_with_bytes_that_are_no_text_is_one_line(bench):
    for strange in ("a\0b", "a\udcffb"):
        refused(bench("show", strange), "no folder")
        refused(bench("run", "--method", strange, "--protocol", "villages.yaml", "--root", "own"), "unknown method")
        refused(bench("run", "--method", "lora", "--protocol", f"{strange}.yaml", "--root", "own"), "cannot read")
        refused(bench("leaderboard", "--out", strange, "--runs", "folder"))
        refused(bench("data", "check", "whuohs", strange))
