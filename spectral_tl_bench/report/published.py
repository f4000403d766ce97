"""Figures published by others: shown marked, and in no mean."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from spectral_tl_bench.report.formatting import as_text

PUBLISHED_MARK = "†"
PUBLISHED_HEADING = "## Published by others"
PUBLISHED_NOTE = """mIoU in percent as printed in Zhang et al., SpectralX, arXiv 2508.01731 (ISPRS J. Photogramm. Remote
Sens. 239, 774-792, 2026), Tables I, IV, V and VI. These are figures of others and never enter a mean here. Before
comparing:

- Trainable parameters as published leave the decoder out (its neck and head, about 76 M, are always trained) and count
  the norms of the ViT.
- The published SpectralX has its Hyper Tokenizer frozen at random initialisation (its 0.4 M are the low-rank path, the
  scaler and the norms).
- The authors' code selects on the target domain for DFC2020 and MTS12, its metric leaves out predictions of class 0 and
  of classes that the target lacks, and labels are resized to 224 px before scoring. Published and leak-free figures are
  therefore not directly comparable.
- Table V prints 54.5 for DSTC on WHU-OHS while its class values average 59.5: unreliable.
- The paper's LoRA and SLR figures for the cross-domain protocols, and SpectralX on MTS12, are not in these tables.
"""


def published() -> pd.DataFrame:
    """Figures published by others: table, method, backbone, adaptation, trainable_params_m, protocol, miou."""
    with files("spectral_tl_bench.leaderboards").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def published_rows(protocol: str) -> pd.DataFrame | None:
    """Published figures of one protocol as rows for a board, by falling mIoU; None where there are none."""
    frame = published()
    frame = frame[frame["protocol"] == protocol].sort_values("miou", ascending=False, kind="stable")
    if frame.empty:
        return None
    adaptation = frame["adaptation"].fillna("")
    names = [f"{name} ({how})" if how else str(name) for name, how in zip(frame["method"], adaptation, strict=True)]
    return pd.DataFrame(
        {
            "method": [f"{name} {PUBLISHED_MARK}" for name in names],
            "backbone": frame["backbone"].map(as_text).tolist(),
            "mIoU": frame["miou"].map(as_text).tolist(),
            "trainable (M)": frame["trainable_params_m"].map(as_text).tolist(),
        }
    )
