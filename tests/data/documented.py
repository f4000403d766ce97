"""Code blocks of the documentation, and how a test runs them: each in a fresh process, on small data, in few steps.

An HTML comment ``<!-- not run: REASON -->`` above a block says why it cannot run in a test.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tiny_run import TINIEST

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# What a command of a page names, and the small thing that stands for it in the test's folder.
SMALL = {
    r"/data/WHU-OHS": "data/whuohs",
    r"--root /data\b": "--root data",
    r"--preset standard": "--preset quick",
    r"\bsweep spectralx_transfers\b": "sweep small.yaml",
    r"\bspecaware_b\b": "specaware_micro",
    r"--init vit_b_mae\b": "--init vit_micro",
    r"--runs DIR\b": "--runs runs",
    r"runs/\S*RUN\b": "{whuohs}",
    r"runs/dfc_season/winter/\S+-[0-9a-f]{10}": "{dfc2020}",
    r"\bRUN\b": "{digest}",
}
PIXEL_MODELS = ("pixel_forest", "SpectralMLP")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    number: int
    language: str
    text: str
    not_run: str | None

    @property
    def file(self) -> str | None:
        """The file name in the first line of a Python block, if it has one."""
        match = re.match(r"# (\w+\.py)\b", self.text)
        return match[1] if match else None


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(page, n, match[2], match[3], match[1]) for n, match in enumerate(found)]


def commands(text: str) -> list[list[str]]:
    """Split a bash block into commands, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words]


def small(words: list[str], names: dict[str, str]) -> list[str]:
    """Replace what a command names by small data, and give it as few steps as possible."""
    text = shlex.join(words).replace("'", "")
    for pattern, replacement in SMALL.items():
        text = re.sub(pattern, replacement.format(**names), text)
    words = text.split(" ")
    if words[:2] == ["spectral-bench", "run"]:
        if not any(model in words[words.index("--method") + 1] for model in PIXEL_MODELS):
            words += [f"--train={name}={value}" for name, value in TINIEST.items()]
        archive = {"whu": "data/whuohs", "dfc": "data/dfc2020"}.get(words[words.index("--protocol") + 1][:3])
        if archive and "--root" not in words:
            words += ["--root", archive]
    if words[:2] == ["spectral-bench", "pretrain"]:
        words += ["--train=reconstruction_steps=2", "--train=reconstruction_batch_size=2"]
    return words


def fresh_process(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``spectral-bench ...`` or ``python ...`` in a process of its own."""
    program = {"spectral-bench": [sys.executable, "-m", "spectral_tl_bench"], "python": [sys.executable]}[words[0]]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    return subprocess.run(
        [*program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
