"""The specification, where it lies beside the checkout, and its table of configurations."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "spec"
TEXT = FOLDER / "mask2former.md"
needs_specification = pytest.mark.skipif(
    not TEXT.is_file(), reason="needs the specification in ../shared"
)


class Row(NamedTuple):
    """One line of the specification's table of configurations."""

    number: str
    config: str
    task: str
    datasets: str
    backbone: str
    start: str
    num_classes: str
    queries: str
    iterations: str
    schedule: str
    batch: str
    mapper: str
    test: str
    augmentation_at_test: str
    switches: str
    parameters: str
    result: str
    file: str

    @property
    def file_suffix(self) -> str:
        """The first digits of the checksum of its file."""
        return self.file.partition(", ")[2]

    @property
    def stem(self) -> str:
        return Path(self.config).stem

    @property
    def data(self) -> str:
        return self.config.split("/")[0]

    @property
    def is_video(self) -> bool:
        return self.task == "vis"


def specified_rows() -> list[Row]:
    """Of every published model; none without the specification."""
    if not TEXT.is_file():
        return []
    lines = TEXT.read_text(encoding="utf-8").splitlines()
    return [
        Row(*(cell.strip().strip("`") for cell in line.strip().strip("|").split("|")))
        for line in lines
        if re.match(r"\| \d+ \| `[^|]*\.yaml`", line)
    ]
