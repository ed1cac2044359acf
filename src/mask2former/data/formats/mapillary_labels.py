"""The labels of Mapillary Vistas: what the pixel values of each version mean."""

import json
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from mask2former.data.formats.listing import is_file
from mask2former.data.formats.text_files import read_json_object

TABLES = {"v1.2": "mapillary_vistas", "v2.0": "mapillary_vistas_v2"}


class Label(NamedTuple):
    """What a value of `labels/*.png` means; the value is the place in the list."""

    name: str
    is_thing: bool
    is_scored: bool


def read_labels(folder: Path, version: str) -> tuple[list[Label], str]:
    """All labels in the order of their values, and where they were found.

    Args:
        folder: Of the data set; its own list of labels counts before the package's.
        version: "v1.2" or "v2.0".

    Raises:
        ValueError: The list of labels is damaged.
    """
    names = [f"config_{version}.json"] + ["config.json"] * (version == "v1.2")
    config = next((folder / name for name in names if is_file(folder / name)), None)
    if config is not None:
        content = read_json_object(config)
        try:
            return [
                Label(str(entry["readable"]), bool(entry["instances"]), bool(entry["evaluate"]))
                for entry in content["labels"]
            ], str(config)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{config} is no list of labels ({type(error).__name__}: {error}); each has "
                f"readable, instances and evaluate: restore the file"
            ) from error
    file = files("mask2former.data").joinpath("classes", f"{TABLES[version]}.json")
    rows = json.loads(file.read_text(encoding="utf-8"))["classes"]
    labels = [Label(row["name"], row["isthing"], row.get("evaluate", True)) for row in rows]
    if labels[-1].is_scored:  # the table of version 1.2 lists classes only
        labels.append(Label("Unlabeled", is_thing=False, is_scored=False))
    return labels, "the package's own table"
