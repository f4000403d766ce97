"""The Markdown pages of the leaderboards, and the figures published by others that stand beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.resources import files

import pandas as pd

from spectral_tl_bench.report.tables import SIMULATED, to_markdown

_HOW_TO_READ = """mIoU in percent, mean over seeds ± sample standard deviation: the mean IoU over the classes present in
the target's ground truth, where predictions of other classes count as misses.

- *95 %*: bootstrap over target tiles, clustered by sub-domain.
- *p*: paired permutation test against the first row, on the seeds both have.
- *worst*: the sub-domain with the lowest mIoU.
- *source*: held-out tiles of the source domain, which also select the model unless *selection* says last.
- *gap*: source minus target.
- *trainable*: millions of parameters, without the decoder.
"""

_SIMULATED_NOTE = """They show that the bench works and say nothing about any sensor. To make them again, run every
suite and then the leaderboard:

    for suite in benchmarks/suites/*.yaml; do spectral-bench sweep $suite --jobs 2; done
    spectral-bench leaderboard
"""

INDEX_HEADING = "# Leaderboards"
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


def published_table(group: str) -> pd.DataFrame | None:
    """Published figures of one protocol file, a column per protocol; None where there are none."""
    frame = published()
    frame = frame[frame["protocol"].str.partition("/")[0] == group]
    if frame.empty:
        return None
    frame = frame.rename(columns={"trainable_params_m": "trainable (M)"})
    keys = ["method", "backbone", "adaptation", "trainable (M)"]
    wide = frame.pivot_table(index=keys, columns="protocol", values="miou", aggfunc="first", sort=False)
    return wide.sort_index(axis=1).reset_index()


def usual(values: Iterable[str]) -> str | None:
    """The most frequent value, None where two are equally frequent."""
    ranked = Counter(values).most_common(2)
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else None


def labels(frame: pd.DataFrame) -> list[str]:
    """Name the rows of a board: the method, and the options in which it differs from most rows of that method."""
    settings = [dict(part.split("=", 1) for part in text.split(", ") if part) for text in frame["options"]]
    names = []
    for method, own in zip(frame["method"], settings, strict=True):
        alike = [other for other, name in zip(settings, frame["method"], strict=True) if name == method]
        shown = [f"{k}={v}" for k, v in own.items() if v != usual(other[k] for other in alike if k in other)]
        names.append(f"{method} ({', '.join(shown)})" if shown else str(method))
    return names


def _with_remark(names: pd.Series, remarks: pd.Series) -> list[str]:
    return [f"{name} ({remark})" if remark else str(name) for name, remark in zip(names, remarks, strict=True)]


def _plus_minus(mean: float, deviation: float) -> str:
    return f"{mean:.2f}" if pd.isna(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a board that a person reads."""
    return pd.DataFrame(
        {
            "method": labels(frame),
            "backbone": _with_remark(frame["backbone"], frame["weights"].str.slice(0, 14)),
            "preset": _with_remark(frame["preset"], frame["changes"]),
            "selection": frame["selection"],
            "seeds": frame["seeds"],
            "mIoU": [_plus_minus(m, d) for m, d in zip(frame["miou"], frame["sd"], strict=True)],
            "95 %": [f"{low:.2f} to {high:.2f}" for low, high in zip(frame["low"], frame["high"], strict=True)],
            "p": ["-" if pd.isna(p) else f"{p:.3f}" for p in frame["p_vs_best"]],
            "worst": _with_remark(frame["worst_miou"].map("{:.2f}".format), frame["worst_subdomain"]),
            "source": frame["source_miou"],
            "gap": frame["gap"],
            "trainable (M)": frame["trainable_m"],
            "id": frame["id"],
        }
    )


def _is_simulated(frame: pd.DataFrame) -> bool:
    return bool((frame["data"] == "simulated").any())


def board_page(frame: pd.DataFrame, name: str) -> str:
    """Return the page of one board.

    Args:
        frame: What :func:`spectral_tl_bench.report.leaderboard.board` returns.
        name: Name of the board, which is its protocol file's.
    """
    simulated = _is_simulated(frame)
    parts = [f"# {SIMULATED}: {name}\n" if simulated else f"# {name}\n"]
    if simulated:
        parts.append("Simulated tiles: these figures show that the bench works and say nothing about any sensor.\n")
    parts += [_HOW_TO_READ, f"![Source and target mIoU by method]({name}.png)\n"]
    for (protocol, scoring), rows in frame.groupby(["protocol", "scoring"], sort=True):
        remark = "" if scoring == "native" else f" ({scoring} scoring: predictions of absent classes left out)"
        parts.append(f"## {protocol}{remark}\n\n{to_markdown(_shown(rows))}")
    figures = None if simulated else published_table(name)
    if figures is not None:
        parts.append(f"{PUBLISHED_HEADING}\n\n{PUBLISHED_NOTE}\n{to_markdown(figures)}")
    return "\n".join(parts)


def _overview(frame: pd.DataFrame) -> str:
    """The means over all transfers as a table, with a caption."""
    shown = pd.DataFrame(
        {
            "method": labels(frame),
            "backbone": _with_remark(frame["backbone"], frame["weights"].str.slice(0, 14)),
            "preset": _with_remark(frame["preset"], frame["changes"]),
            "seeds": frame["seeds"],
            "mean": [_plus_minus(m, d) for m, d in zip(frame["mean"], frame["sd"], strict=True)],
            **{column: frame[column] for column in frame if "/" in str(column)},
            "source": frame["source_mean"],
        }
    )
    return f"\nTarget mIoU over all transfers; *source*: held-out source tiles, mean.\n\n{to_markdown(shown)}"


def index_page(
    boards: Mapping[tuple[bool, str], pd.DataFrame], overviews: Mapping[bool, pd.DataFrame] | None = None
) -> str:
    """Return the page that lists the boards.

    Args:
        boards: Boards by (simulated, name); may be empty.
        overviews: What :func:`spectral_tl_bench.report.transfers.over_transfers` returns, by simulated.
    """

    def listing(simulated: bool) -> str:
        rows = []
        for (is_simulated, name), frame in sorted(boards.items(), key=lambda item: item[0]):
            if is_simulated == simulated:
                path = f"simulated/{name}.md" if simulated else f"{name}.md"
                protocols = frame["protocol"].nunique()
                rows.append((f"[{name}]({path})", protocols, len(frame), int(frame["seeds"].sum())))
        if not rows:
            return "None yet.\n"
        listed = to_markdown(pd.DataFrame(rows, columns=["board", "protocols", "rows", "runs"]))
        overview = (overviews or {}).get(simulated)
        return listed if overview is None or overview.empty else listed + _overview(overview)

    return "\n".join(
        [
            f"{INDEX_HEADING}\n",
            "Made by `spectral-bench leaderboard` from the records of runs; do not edit.\n",
            f"## Real archives\n\n{listing(False)}",
            f"## Simulated tiles\n\n{_SIMULATED_NOTE}\n{listing(True)}",
            f"{PUBLISHED_HEADING}\n\n`published.csv`: {PUBLISHED_NOTE}",
        ]
    )
