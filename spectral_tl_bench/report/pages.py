"""The Markdown pages of the leaderboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from spectral_tl_bench.config.protocols import TRANSFERS
from spectral_tl_bench.records.titles import SIMULATED
from spectral_tl_bench.report.board import Board
from spectral_tl_bench.report.formatting import Markdown, as_text, to_markdown, to_text
from spectral_tl_bench.report.names import DIGITS_OF_WEIGHTS, REFERENCE_BASELINE
from spectral_tl_bench.report.published import PUBLISHED_HEADING, PUBLISHED_MARK, PUBLISHED_NOTE, published_rows

INDEX_HEADING = "# Leaderboards"

_HOW_TO_READ = f"""mIoU in percent: the mean IoU over the classes present in the target's ground truth, where
predictions of other classes count as misses.

- *mIoU*: all target tiles pooled, mean over seeds ± sample standard deviation; *seeds*: how many. ▼: below
  `{REFERENCE_BASELINE}`, a random forest on single pixels.
- *95 %*: t interval of that mean over seeds, from three seeds on. It says nothing about another region.
- *sub-domains*: mean over the target's sub-domains; *worst*: the lowest of them. The pooled score can lie below that:
  a class that few sub-domains have counts there like any other, and its false alarms in all of them count against it.
- *elsewhere*: 95 % interval of the mean over sub-domains for other sub-domains and seeds; from five sub-domains and
  three seeds on.
- *vs*: mean difference by seed to the row named there with the same backbone, weights and training (the learning rate
  that suits each method apart), on the seeds both have; *p*: paired t-test over seeds, from three seeds on, corrected
  over the whole board (Holm).
- *source*: held-out tiles of the source domain, which also select the model unless *selection* says last; *gap*:
  source minus target.
- *robust*: effective robustness (Taori et al., 2020), points above what the source score explains, by a line through
  all rows in logits; from five rows on.
- *trainable*: millions of parameters, without the decoder.
"""

_SIMULATED_NOTE = """They show that the bench works and say nothing about any sensor, nor about other simulated tiles:
intervals are for other seeds and transfers of this one draw of landscapes, and another draw (`data simulate --seed`)
can turn a difference round. To make them again, run the suite that they came from, then the leaderboard:

    spectral-bench sweep spectralx_transfers --jobs 2   # or another of benchmarks/suites/
    spectral-bench leaderboard
"""

_RECORDS_NOTE = """Boards are made from packed records, two files for each board: `NAME.runs.jsonl.gz` with what ran,
and `NAME.parquet` with its pixel counts. Every command that takes `--runs` reads them as it reads folders of runs, and
a sweep with `--out leaderboards/records` skips what they hold. To add finished runs, or to compare boards and records:

    spectral-bench leaderboard --runs runs --pack leaderboards/records
    spectral-bench leaderboard --runs leaderboards/records --check
"""

_TRANSFERS_NOTE = """Target mIoU over all transfers, of what ran on every one of them with the same seeds. *mean*: over
transfers, then mean over seeds ± sample standard deviation; *source*: held-out source tiles. *vs*: mean difference to
the row named there, with its 95 % interval for other transfers and seeds; *signs*: in how many transfers the difference
has that sign; *p*: of no difference, seeds and transfers both taken as drawn at random, corrected over the table
(Holm)."""


def _with_remark(names: pd.Series, remarks: pd.Series) -> list[str]:
    return [f"{name} ({remark})" if remark else str(name) for name, remark in zip(names, remarks, strict=True)]


def _plus_minus(mean: float, deviation: float) -> str:
    return as_text(mean) if pd.isna(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def _range(lows: pd.Series, highs: pd.Series) -> list[str]:
    pairs = zip(lows, highs, strict=True)
    return ["-" if pd.isna(low) else f"{low:.2f} to {high:.2f}" for low, high in pairs]


def _p(values: pd.Series) -> list[str]:
    return ["-" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in values]


def _signed(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:+.2f}"


def _described(frame: pd.DataFrame) -> dict[str, list[str]]:
    none = frame["backbone"] == "none"
    backbones = _with_remark(frame["backbone"], frame["weights"].str.slice(0, DIGITS_OF_WEIGHTS).mask(none, ""))
    presets = _with_remark(frame["preset"], frame["changes"])
    return {
        "method": frame["row"].tolist(),
        "backbone": ["-" if empty else text for empty, text in zip(none, backbones, strict=True)],
        "preset": ["-" if text == "none" else text for text in presets],
    }


def _comparisons(frame: pd.DataFrame, against: Sequence[str], with_interval: bool) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for name in against:
        if frame[f"vs_{name}"].isna().all():
            continue
        columns[f"vs {name}"] = [_signed(value) for value in frame[f"vs_{name}"]]
        if with_interval:
            columns[f"95 % (vs {name})"] = _range(frame[f"vs_{name}_low"], frame[f"vs_{name}_high"])
            signs = zip(frame[f"vs_{name}_agreeing"], frame[f"vs_{name}_seeds"], strict=True)
            columns[f"signs (vs {name})"] = [str(agreeing) if seeds else "-" for agreeing, seeds in signs]
        columns[f"p (vs {name})"] = _p(frame[f"vs_{name}_p_holm"])
    return columns


def _shown(frame: pd.DataFrame, against: Sequence[str]) -> pd.DataFrame:
    """The columns of a board that a person reads."""
    marks = frame["below_yardstick"].map({"yes": " ▼"}).fillna("")
    scored = [_plus_minus(m, d) for m, d in zip(frame["miou"], frame["sd"], strict=True)]
    return pd.DataFrame(
        {
            **_described(frame),
            "selection": frame["selection"],
            "seeds": frame["seeds"].astype(str),
            "mIoU": [f"{text}{mark}" for text, mark in zip(scored, marks, strict=True)],
            "95 %": _range(frame["low"], frame["high"]),
            "sub-domains": frame["subdomain_mean"].map(as_text),
            "elsewhere": _range(frame["elsewhere_low"], frame["elsewhere_high"]),
            "worst": _with_remark(frame["worst_miou"].map(as_text), frame["worst_subdomain"]),
            **_comparisons(frame, against, with_interval=False),
            "source": frame["source_miou"].map(as_text),
            "gap": frame["gap"].map(as_text),
            "robust": frame["effective_robustness"].map(_signed),
            "trainable (M)": frame["trainable_m"].map(as_text).mask(frame["backbone"] == "none", "-"),
            "id": frame["id"],
        }
    )


def _wide(details: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Figures of one kind of one protocol: a row per row of the board, a column per sub-domain or class."""
    chosen = details[details["kind"] == kind]
    wide = chosen.pivot_table(index="id", columns="name", values="percent", aggfunc="first", sort=False, dropna=False)
    names = chosen.drop_duplicates("id").set_index("id")["row"]
    wide = wide.reindex(index=names.index)
    return pd.DataFrame({"method": names.to_numpy(), **{str(name): wide[name].to_numpy() for name in wide.columns}})


def _section(board: Board, protocol: str, scoring: str, rows: pd.DataFrame) -> str:
    remark = "" if scoring == "native" else f" ({scoring} scoring: predictions of absent classes left out)"
    shown = _shown(rows, board.against)
    theirs = None if board.simulated else published_rows(protocol)
    if theirs is not None:
        shown = pd.concat([shown, theirs.reindex(columns=shown.columns, fill_value="-")], ignore_index=True)
    own = (board.details["protocol"] == protocol) & (board.details["scoring"] == scoring)
    details = board.details[own]
    parts = [
        f"## {to_text(protocol)}{remark}\n\n{to_text(board.titles[protocol])}.\n\n{to_markdown(shown)}",
        f"Target mIoU by sub-domain, mean over seeds:\n\n{to_markdown(_wide(details, 'subdomain'))}",
        f"IoU by class over all target tiles, mean over seeds:\n\n{to_markdown(_wide(details, 'class'))}",
    ]
    return "\n".join(parts)


def board_page(board: Board, name: str) -> str:
    """Return the page of one board.

    Args:
        board: The board.
        name: Its name, which is its protocol file's.
    """
    heading = to_text(name)
    parts = [f"# {SIMULATED}: {heading}\n" if board.simulated else f"# {heading}\n"]
    if board.simulated:
        parts.append("Simulated tiles: these figures show that the bench works and say nothing about any sensor.\n")
    parts += [_HOW_TO_READ, f"![Source and target mIoU by method]({name}.png)\n"]
    if board.rows["effective_robustness"].notna().any():
        parts.append(f"![Target against source mIoU](details/{name}.png)\n")
    sections = [
        _section(board, str(protocol), str(scoring), rows)
        for (protocol, scoring), rows in board.rows.groupby(["protocol", "scoring"], sort=True)
    ]
    parts += sections
    if any(PUBLISHED_MARK in section for section in sections):
        parts.append(f"{PUBLISHED_HEADING}\n\nRows with {PUBLISHED_MARK}. {PUBLISHED_NOTE}")
    return "\n".join(parts)


def _overview(frame: pd.DataFrame, lacking: pd.DataFrame, against: Sequence[str]) -> str:
    """The means over all transfers as a table, with a caption; below it what is incomplete."""
    parts = []
    if not frame.empty:
        shown = pd.DataFrame(
            {
                **_described(frame),
                "seeds": frame["seeds"].astype(str),
                "mean": [_plus_minus(m, d) for m, d in zip(frame["mean"], frame["sd"], strict=True)],
                **_comparisons(frame, against, with_interval=True),
                **{name: frame[name] for name in TRANSFERS},
                "source": frame["source_mean"],
            }
        )
        parts.append(f"\n{_TRANSFERS_NOTE}\n\n{to_markdown(shown)}")
    if not lacking.empty:
        shown = pd.DataFrame({**_described(lacking), "missing": lacking["missing"]})
        parts.append(f"\nIncomplete, and so without a mean over the transfers:\n\n{to_markdown(shown)}")
    return "".join(parts)


def index_page(
    boards: Mapping[tuple[bool, str], Board],
    overviews: Mapping[bool, tuple[pd.DataFrame, pd.DataFrame]],
    against: Sequence[str],
) -> str:
    """Return the page that lists the boards.

    Args:
        boards: Boards by (simulated, name); may be empty.
        overviews: What :func:`spectral_tl_bench.report.transfers.over_transfers` returns, by simulated.
        against: Methods that rows are compared with.
    """

    def listing(simulated: bool) -> str:
        rows = []
        for (is_simulated, name), board in sorted(boards.items(), key=lambda item: item[0]):
            if is_simulated == simulated:
                path = f"simulated/{name}.md" if simulated else f"{name}.md"
                frame = board.rows
                link = Markdown(f"[{to_text(name)}]({path})")
                rows.append((link, frame["protocol"].nunique(), len(frame), int(frame["seeds"].sum())))
        if not rows:
            return "None yet.\n"
        table = pd.DataFrame([row[1:] for row in rows], columns=["protocols", "rows", "runs"])
        # As objects: a column of text would forget that the links are Markdown.
        table.insert(0, "board", pd.Series([row[0] for row in rows], dtype=object))
        listed = to_markdown(table)
        return listed + (_overview(*overviews[simulated], against) if simulated in overviews else "")

    return "\n".join(
        [
            f"{INDEX_HEADING}\n",
            "Made by `spectral-bench leaderboard` from the records of runs; do not edit.\n",
            f"## Real archives\n\n{listing(False)}",
            f"## Simulated tiles\n\n{_SIMULATED_NOTE}\n{listing(True)}",
            f"## Records\n\n{_RECORDS_NOTE}",
            f"{PUBLISHED_HEADING}\n\n`published.csv`: {PUBLISHED_NOTE}",
        ]
    )
