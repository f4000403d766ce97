"""Provenance: which software and hardware made a run."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

import spectral_tl_bench
from spectral_tl_bench.utils.validation import Value

_PACKAGES = ("torch", "torchgeo", "lightning", "timm", "peft", "kornia", "numpy", "rasterio", "scikit-learn")
_PACKAGE_FOLDER = Path(spectral_tl_bench.__file__).resolve().parent


class Provenance(Value):
    """Which software and hardware made a run.

    Attributes:
        version: Version of this package.
        python: Version of Python.
        packages: Versions of the packages that can change a result.
        git_commit: Commit of the checkout that the package lies in, None when it was installed from elsewhere.
        git_dirty: Whether that checkout had changes or new files in the code.
        platform: Operating system and architecture.
        cpu: Name of the processor.
        gpu: Name of the accelerator used, None for a run on the processor.
        threads: Threads of torch, whose number can change the last bit of a sum.
        devices: Devices on each node, each with a process of its own.
        num_nodes: Nodes.
        strategy: How several processes shared the run.
        date: Start of the run, ISO 8601, UTC.
        resumed_from: Software of earlier processes of the run where it was other than this one's.
    """

    version: str
    python: str
    packages: dict[str, str]
    git_commit: str | None = None
    git_dirty: bool | None = None
    platform: str
    cpu: str
    gpu: str | None = None
    threads: int = Field(ge=1)
    devices: int = Field(default=1, ge=1)
    num_nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"
    date: str
    resumed_from: tuple[dict[str, str], ...] = ()

    @field_validator("devices", "num_nodes", "strategy", mode="before")
    @classmethod
    def _unset_is_the_default(cls, value: object, info: ValidationInfo) -> object:
        """Embedded weights of one process have null there."""
        assert info.field_name is not None
        return cls.model_fields[info.field_name].default if value is None else value

    @property
    def software(self) -> dict[str, str]:
        """What an interrupted run must be resumed with: versions, and the commit of the code."""
        commit = {} if self.git_commit is None else {"commit": self.git_commit + ("+changes" if self.git_dirty else "")}
        return {"spectral_tl_bench": self.version, "python": self.python, **self.packages, **commit}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, None where there is no git, no checkout or no commit."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(folder: Path = _PACKAGE_FOLDER) -> tuple[str | None, bool | None]:
    """Return the commit and whether the code differs from it.

    Args:
        folder: The package's folder.

    Returns:
        (None, None) where git does not track the package: an installed copy may lie inside an unrelated checkout.
    """
    if not _git(folder, "ls-files", "__init__.py"):
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    # Baselines and protocols are in folders next to the package; a folder of runs must not count as a change.
    code = [str(path) for name in (folder.name, "baselines", "benchmarks") if (path := folder.parent / name).is_dir()]
    return commit, bool(_git(folder, "status", "--porcelain", "--", *code))


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def provenance(threads: int) -> Provenance:
    """Describe this process: software, hardware and time.

    Args:
        threads: How many torch has.
    """
    commit, dirty = git_state()
    return Provenance(
        version=spectral_tl_bench.__version__,
        python=platform.python_version(),
        packages=_versions(),
        git_commit=commit,
        git_dirty=dirty,
        platform=platform.platform(),
        cpu=_cpu(),
        threads=threads,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
