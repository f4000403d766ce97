"""Scenes in arrays, laid out as the public hyperspectral scenes are: MATLAB 5 and 7.3, NumPy, ENVI without a place."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml
from archives import write_mat, write_mat_73, write_tif

from spectral_tl_bench.config.protocols import protocols_of, read_protocol_file
from spectral_tl_bench.datamodules.leakage_checks import examine
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.utils.errors import SpectralBenchError

BANDS, ROWS, COLUMNS, SIDE = 12, 48, 32, 8
GENERATOR = np.random.default_rng(0)
CODES = GENERATOR.integers(0, 4, (ROWS, COLUMNS)).astype("uint8")
CUBE = (CODES[..., None] * np.uint16(1000) + GENERATOR.integers(200, 900, (ROWS, COLUMNS, BANDS))).astype("uint16")
SAMPLES = Path(
    os.environ.get("SPECTRAL_TL_BENCH_SAMPLES", Path(__file__).parents[3] / "shared" / "data" / "real_samples")
)


def opened(root, folder, classes=(1, 2, 3), bands=BANDS, **changes):
    content = {
        "title": "Upper to lower part",
        "dataset": "tiles",
        "sensor": {"name": "imager", "wavelengths": {"first": 430, "last": 860, "number": bands}},
        "classes": [{"code": code, "name": f"class {code}"} for code in classes],
        "ignore": [0],
        "folder": {"tiles": {"size": SIDE}, **folder},
        "source": {"rows": f"0-{ROWS // 2}"},
        "target": {"rows": f"{ROWS // 2}-{ROWS}"},
        "by": "scene",
        **changes,
    }
    path = root / "p.yaml"
    path.write_text(yaml.safe_dump(content))
    file = read_protocol_file(path)
    dataset = open_dataset(file, root)
    problems, _ = examine(protocols_of(file), root, all_must_run=True)
    if problems:
        raise SpectralBenchError(problems[0].message)
    return dataset


def require_scene(dataset, cube=CUBE, codes=CODES):
    """Every tile has the pixels and the classes of its place in the scene."""
    assert len(dataset) == (cube.shape[0] // SIDE) * (cube.shape[1] // SIDE)
    for position, (top, left, height, width) in enumerate(dataset.index["part"]):
        sample, place = dataset[position], (slice(top, top + height), slice(left, left + width))
        np.testing.assert_allclose(sample["image"].numpy(), cube[place].transpose(2, 0, 1) / 10_000, rtol=1e-5)
        np.testing.assert_array_equal(
            sample["mask"].numpy(), np.where(codes[place] == 0, 255, codes[place].astype(int) - 1)
        )


def pavia(root):
    """Two files of MATLAB 5, a variable each."""
    write_mat(root / "PaviaU.mat", paviaU=CUBE)
    write_mat(root / "PaviaU_gt.mat", paviaU_gt=CODES)
    return {"images": "PaviaU.mat", "labels": "PaviaU_gt.mat"}


def indian_pines(root):
    """Reflectance as doubles, and wavelengths beside it."""
    write_mat(
        root / "Indian_pines_corrected.mat", indian_pines_corrected=CUBE.astype(float), bands=np.arange(12.0)[None]
    )
    write_mat(root / "Indian_pines_gt.mat", indian_pines_gt=CODES.astype(float))
    return {"images": "Indian_pines_corrected", "labels": "Indian_pines_gt"}


def houston(root):
    """One file of MATLAB 7.3 with the cube, the map and more."""
    write_mat_73(root / "Houston.mat", hsi=CUBE.astype("float32"), gt=CODES, numClasses=np.array([[3.0]]))
    return {"images": "Houston.mat", "labels": "Houston.mat:gt"}


def several_variables(root):
    write_mat(root / "scenes.mat", before=CUBE[::-1], after=CUBE, gt=CODES)
    return {"images": "scenes.mat:after", "labels": "scenes.mat"}


def numpy_files(root):
    np.save(root / "cube.npy", CUBE)
    np.save(root / "gt.npy", CODES[..., None])
    return {"images": "cube.npy", "labels": "gt.npy"}


def numpy_bands_first(root):
    np.save(root / "cube.npy", np.asfortranarray(CUBE.transpose(2, 0, 1).astype(">i4")))
    np.save(root / "gt.npy", CODES[None].astype("int64"))
    return {"images": "cube.npy", "labels": "gt.npy"}


def envi(root):
    """ENVI without coordinates, named by its header as some tools do."""
    write_tif(root / "scene.dat", CUBE.transpose(2, 0, 1), driver="ENVI", interleave="bil")
    write_tif(root / "scene_gt.dat", CODES, driver="ENVI")
    return {"images": "scene.hdr", "labels": "scene_gt.dat"}


def unmixing(root):
    """Bands x pixels, column by column, with the numbers of rows and columns."""
    listed = CUBE.transpose(2, 1, 0).reshape(BANDS, -1)
    abundances = np.eye(4)[CODES.T.ravel()].T
    spectra = np.concatenate([listed, listed[-1:]])
    write_mat(root / "samson.mat", Y=spectra, A=abundances, nRow=np.array([[ROWS]]), nCol=np.array([[COLUMNS]]))
    np.save(root / "gt.npy", CODES)
    return {"images": "samson.mat", "labels": "gt.npy"}


@pytest.mark.parametrize(
    "layout", [pavia, indian_pines, houston, several_variables, numpy_files, numpy_bands_first, envi]
)
def test_a_public_layout_gives_the_scene_and_its_map(tmp_path, layout):
    require_scene(opened(tmp_path, layout(tmp_path)))


def test_spectra_listed_pixel_by_pixel_are_a_scene(tmp_path):
    dataset = opened(tmp_path, unmixing(tmp_path), bands=BANDS + 1)
    require_scene(dataset, np.concatenate([CUBE, CUBE[..., -1:]], axis=2))


def test_two_scenes_in_files_of_their_own_are_source_and_target(tmp_path):
    for name, turn in (("east", 1), ("west", -1)):
        write_mat(tmp_path / f"{name}.mat", cube=CUBE[::turn])
        write_mat(tmp_path / f"{name}_gt.mat", gt=CODES[::turn])
    (tmp_path / "tiles.csv").write_text("tile,region\neast,east\nwest,west\n")
    folder = {"images": "{tile}.mat", "labels": "{tile}_gt.mat"}
    dataset = opened(tmp_path, folder, source={"region": "east"}, target={"region": "west"}, by="region")
    assert dataset.index["scene"].value_counts().to_dict() == {"east": 24, "west": 24}
    np.testing.assert_allclose(dataset[24]["image"].numpy(), CUBE[:-9:-1, :8].transpose(2, 0, 1) / 10_000, rtol=1e-5)


def test_tiles_can_be_numpy_files(tmp_path):
    lines = ["tile,region"]
    for number in range(6):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        np.save(tmp_path / "images" / f"{number}.npy", CUBE[8 * number : 8 * number + 8])
        np.save(tmp_path / "labels" / f"{number}.npy", CODES[8 * number : 8 * number + 8])
        lines.append(f"{number},{'north' if number < 4 else 'south'}")
    (tmp_path / "tiles.csv").write_text("\n".join(lines))
    transfer = {"source": {"region": "north"}, "target": {"region": "south"}, "by": "region"}
    dataset = opened(tmp_path, {"tiles": None}, **transfer)
    assert len(dataset) == 6
    for number in range(6):
        np.testing.assert_array_equal(dataset[number]["mask"].numpy() == 255, CODES[8 * number : 8 * number + 8] == 0)
    before = dataset.checksums(range(6))
    np.save(tmp_path / "images" / "5.npy", CUBE[40:] + 1)
    after = opened(tmp_path, {"tiles": None}, **transfer).checksums(range(6))
    assert [tile for tile in before if before[tile] != after[tile]] == ["5"]


def arrays(root, **held):
    write_mat(root / "s.mat", **held)
    return {"images": "s.mat", "labels": "s.mat"}


def numpy_array(root, array, allow_pickle=False):
    np.save(root / "s.npy", array, allow_pickle=allow_pickle)
    np.save(root / "gt.npy", CODES)
    return {"images": "s.npy", "labels": "gt.npy"}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: arrays(root, a=CUBE, b=CUBE, gt=CODES), r"several arrays .* the image: a \(48 x 32 x 12\), b"),
        (lambda root: arrays(root, a=CUBE), r"no array that can be the label: a \(48 x 32 x 12\); name one behind"),
        (lambda root: arrays(root, gt=CODES, name="x"), "no array that can be the image"),
        (lambda root: arrays(root, a=CUBE, gt=CODES) | {"images": "s.mat:b"}, r"holds no array 'b' but a \(48"),
        (lambda root: arrays(root, a=CUBE + 1j, gt=CODES), "complex"),
        (lambda root: numpy_array(root, CUBE[..., :7]), r"has 7 bands where imager has 12"),
        (lambda root: numpy_array(root, CUBE[None].repeat(2, 0)), "has the axes 2 x 48 x 32 x 12, where a scene has"),
        (lambda root: numpy_array(root, np.array([{"a": 1}]), allow_pickle=True), "cannot read .*s.npy"),
        (lambda root: numpy_array(root, CUBE.astype(complex)), "values of type complex128"),
        (lambda root: numpy_array(root, CUBE.astype(str)), "values of type <U"),
        (lambda root: numpy_array(root, CUBE[:40]), "gt.npy is 48 x 32 px but its scene is 40 x 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_scene_are_refused_in_one_line(tmp_path, write, message):
    folder = write(tmp_path)
    with pytest.raises(SpectralBenchError, match=message) as error:
        opened(tmp_path, folder)
    assert "\n" not in str(error.value)


def test_a_pickle_in_a_numpy_file_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    folder = numpy_array(tmp_path, np.array([Evil()]), allow_pickle=True)
    with pytest.raises(SpectralBenchError, match="cannot read"):
        opened(tmp_path, folder)
    assert not (tmp_path / "executed").exists()


# Real files, which nobody of this project wrote.

real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not there")


@real
def test_jasper_ridge_is_read_with_its_abundances_as_classes(tmp_path):
    held = scipy.io.loadmat(SAMPLES / "jasper" / "jasperRidge2_R198.mat")
    (tmp_path / "jasper.mat").symlink_to(SAMPLES / "jasper" / "jasperRidge2_R198.mat")
    cube = held["Y"].reshape(198, 100, 100).transpose(2, 1, 0)
    codes = held["A"].argmax(axis=0).reshape(100, 100).T + 1
    np.save(tmp_path / "gt.npy", codes.astype("uint8"))
    dataset = opened(
        tmp_path,
        {"images": "jasper.mat", "labels": "gt.npy"},
        classes=(1, 2, 3, 4),
        bands=198,
        source={"rows": "0-48"},
        target={"rows": "48-100"},
    )
    require_scene(dataset, cube, codes)
    # Water is dark and vegetation bright in the near infrared, wherever rows and columns were not mixed up.
    mean = [np.mean([cube[codes == code][:, 60]]) for code in (1, 2)]
    assert mean[0] > 2 * mean[1]


@real
def test_the_scenes_of_eo_learn_are_tiles_with_their_land_cover(tmp_path):
    scenes = np.load(SAMPLES / "eolearn" / "REFERENCE_SCENES.npy")
    cover = np.load(SAMPLES / "eolearn" / "LULC.npy")
    for name, array in (("a", scenes[0]), ("b", scenes[1])):
        np.save(tmp_path / f"{name}.npy", array)
        (tmp_path / f"{name}_lulc.npy").symlink_to(SAMPLES / "eolearn" / "LULC.npy")
    (tmp_path / "tiles.csv").write_text("tile,date\na,first\nb,second\n")
    dataset = opened(
        tmp_path,
        {"images": "{tile}.npy", "labels": "{tile}_lulc.npy"},
        classes=range(1, 9),
        bands=13,
        sensor={"name": "s2", "scale": 1, "wavelengths": {"first": 443, "last": 2190, "number": 13}},
        source={"date": "first"},
        target={"date": "second"},
        by="date",
    )
    assert len(dataset) == 2 * 12 * 12
    top, left = dataset.index["part"].iloc[150][:2]
    np.testing.assert_array_equal(
        dataset[150]["image"].numpy(), scenes[1][top : top + 8, left : left + 8].transpose(2, 0, 1)
    )
    codes = cover[top : top + 8, left : left + 8, 0].astype(int)
    np.testing.assert_array_equal(dataset[150]["mask"].numpy(), np.where(codes == 0, 255, codes - 1))


@real
@pytest.mark.parametrize("name", ["PaviaU", "Indian_pines"])
def test_real_ground_truth_maps_label_a_cube_of_their_size(tmp_path, name):
    (tmp_path / "gt.mat").symlink_to(SAMPLES / "gt" / f"{name}_gt.mat")
    (codes,) = (v for k, v in scipy.io.loadmat(SAMPLES / "gt" / f"{name}_gt.mat").items() if not k.startswith("_"))
    cube = np.random.default_rng(0).integers(100, 4000, (*codes.shape, 4)).astype("uint16")
    np.save(tmp_path / "cube.npy", cube)
    side = 40
    rows = codes.shape[0] // 2 // side * side
    dataset = opened(
        tmp_path,
        {"images": "cube.npy", "labels": "gt.mat", "tiles": {"size": side}},
        classes=range(1, int(codes.max()) + 1),
        bands=4,
        source={"rows": f"0-{rows}"},
        target={"rows": f"{rows}-{codes.shape[0]}"},
    )
    masks = {part[:2]: dataset[position]["mask"].numpy() for position, part in enumerate(dataset.index["part"][:20])}
    for (top, left), mask in masks.items():
        expected = codes[top : top + side, left : left + side].astype(int)
        np.testing.assert_array_equal(mask, np.where(expected == 0, 255, expected - 1))
