"""Make the table of material spectra that simulated archives are built from.

Source: the spectral library of the package ``earthlib`` (https://pypi.org/project/earthlib, MIT licence, Copyright 2023
Christopher Anderson): 7,261 reflectance spectra, 400 to 2450 nm in steps of 10 nm without the atmosphere's water bands.
Soils are from the ICRAF-ISRIC soil database, urban materials and dry vegetation were measured with field spectrometers,
canopies were simulated with PROSAIL. The table holds the mean spectrum of each material and its three main directions
of variation, each scaled to one standard deviation, in units of 1/10000.

    pip download --no-deps earthlib && unzip earthlib-*.whl 'earthlib/data/spectra.*'
    python benchmarks/make_material_spectra.py earthlib/data
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

TABLE = Path(__file__).parents[1] / "spectral_tl_bench" / "simulation" / "world" / "spectra.csv"
DIRECTIONS = 3
SCALE = 10_000


def read_library(folder: Path) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Return wavelengths in nm (W), reflectance (N x W) and the material of each spectrum as the library names it."""
    header = (folder / "spectra.sli.hdr").read_text(encoding="utf-8")
    match = re.search(r"wavelength = \{(.*?)\}", header, re.DOTALL)
    if match is None:
        raise ValueError(f"{folder / 'spectra.sli.hdr'} lists no wavelengths")
    wavelengths = np.rint([1000 * float(text) for text in match[1].split(",")]).astype(int)
    spectra = np.fromfile(folder / "spectra.sli", "<f4").reshape(-1, len(wavelengths)).astype(np.float64)
    return wavelengths, spectra, pd.read_csv(folder / "spectra.csv")["LEVEL_3"]


def materials(wavelengths: np.ndarray, spectra: np.ndarray, names: pd.Series) -> dict[str, np.ndarray]:
    """Return the rows of each material. Canopies and soils are divided by reflectance at a few wavelengths."""
    blue, red, infrared, shortwave = (
        spectra[:, int(np.flatnonzero(wavelengths == at)[0])] for at in (480, 670, 860, 1650)
    )
    greenness = (infrared - red) / np.maximum(infrared + red, 1e-6)
    moisture = (infrared - shortwave) / np.maximum(infrared + shortwave, 1e-6)
    canopy, soil = (names == "canopy").to_numpy(), (names == "soil").to_numpy()
    dark, bright = np.quantile(shortwave[soil], (0.33, 0.75))
    middle = soil & (shortwave > dark) & (shortwave <= bright)
    redness = red / np.maximum(blue, 1e-6)
    typical = float(np.median(redness[middle]))
    chosen = {
        "needle": canopy & (greenness > 0.85) & (infrared < 0.36),
        "broadleaf": canopy & (greenness > 0.88) & (infrared >= 0.40) & (infrared < 0.50),
        "crop": canopy & (greenness > 0.85) & (infrared >= 0.50),
        "grass": canopy & (greenness > 0.75) & (greenness <= 0.88) & (infrared >= 0.36) & (infrared < 0.50),
        "shrub": canopy & (greenness > 0.56) & (greenness <= 0.80) & (infrared < 0.40),
        "reed": canopy & (greenness > 0.80) & (moisture > 0.50) & (infrared < 0.42),
        "dark_soil": soil & (shortwave <= dark),
        "red_soil": middle & (redness > typical),
        "grey_soil": middle & (redness <= typical),
        "bright_soil": soil & (shortwave > bright) & (redness > 1.5),
        "salt": soil & (blue > np.quantile(blue[soil], 0.98)),
    }
    groups = {
        "sand": ("sand",),
        "gravel": ("gravel",),
        "dry": ("npv", "litter"),
        "wood": ("bark", "wood"),
        "char": ("char",),
        "concrete": ("sidewalk", "bridge", "driveway"),
        "asphalt": ("road", "asphalt", "parking_lot"),
        "shingle": ("comp_shingle", "concrete_tile"),
        "tile": ("tile", "wood_shingle"),
        "metal": ("metal",),
    }
    return chosen | {name: names.isin(group).to_numpy() for name, group in groups.items()}


def summarize(spectra: np.ndarray) -> np.ndarray:
    """Return the mean and the main directions of variation of N x W spectra, (1 + DIRECTIONS) x W."""
    mean = spectra.mean(axis=0)
    _, singular, directions = np.linalg.svd(spectra - mean, full_matrices=False)
    scaled = directions[:DIRECTIONS] * singular[:DIRECTIONS, None] / np.sqrt(len(spectra) - 1)
    # The sign of a direction is arbitrary: more of it is brighter.
    return np.vstack((mean, scaled * np.where(scaled.sum(axis=1) < 0, -1, 1)[:, None]))


def main(folder: Path) -> None:
    """Write the table."""
    wavelengths, spectra, names = read_library(folder)
    rows = []
    for name, members in materials(wavelengths, spectra, names).items():
        values = np.rint(summarize(spectra[members]) * SCALE).astype(int)
        for order, row in enumerate(values):
            rows.append([name, order, int(members.sum()), *row.tolist()])
    columns = ["material", "direction", "spectra", *wavelengths.tolist()]
    pd.DataFrame(rows, columns=columns).to_csv(TABLE, index=False, lineterminator="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
