"""What lies in the folder that the tests of wrong usage and hostile files work in."""

from pathlib import Path

PROTOCOL = """
title: Coast to inland
dataset: tiles
sensor: {name: drone, rgb: [red, green, blue], bands: {blue: 480, green: 560, red: 660, nir: 840}}
classes:
  - {code: 10, name: field, color: "#aa8800"}
  - {code: 20, name: forest, color: "#006600"}
  - {code: 30, name: water, color: "#0000aa"}
folder: {tile: name, block: sheet}
source: {region: coast}
target: {region: inland}
by: region
"""

PLUGINS = {
    "empty.py": "",
    "syntax.py": "def (:",
    "raises.py": "1 / 0",
    "exits.py": "import sys; sys.exit(0)",
    "null.py": "x = '\0'",
    "theirs.py": """
from dataclasses import dataclass, field
from spectral_tl_bench.methods import Method

number = 3

class NoDataclass(Method):
    def adapt(self, backbone): pass

@dataclass
class Abstract(Method):
    rank: int = 1

@dataclass
class FailsToBeMade(Method):
    rank: int = 1
    def __post_init__(self): raise KeyError("rank")
    def adapt(self, backbone): pass

@dataclass
class StrangeOption(Method):
    rank: "no_such_type" = 1
    def adapt(self, backbone): pass

@dataclass
class FailsToAdapt(Method):
    def adapt(self, backbone): raise RuntimeError("first line\\n[red]second[/] line")
""",
}


class Evil:
    """Leaves a file behind where its pickle is loaded."""

    def __reduce__(self):
        return (Path.touch, (Path("EXECUTED"),))


TINY = [
    f"--train={setting}"
    for setting in ("image_size=16", "batch_size=2", "segmentation_steps=1", "validations=1", "decoder_channels=4")
]
