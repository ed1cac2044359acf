"""The tables of published models are what docs/make_zoo.py makes of the presets."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from mask2former.presets import Preset, all_presets, all_published
from specification import needs_specification, specified_rows

ROOT = Path(__file__).parents[1]
GENERAL = ("instance", "panoptic", "semantic", "tiny")


def load_generator() -> ModuleType:
    path = ROOT / "docs" / "make_zoo.py"
    specification = importlib.util.spec_from_file_location("make_zoo", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


make_zoo = load_generator()


@cache
def page() -> str:
    return (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")


def shown() -> dict[str, Preset]:
    presets = {**all_presets(), **all_published()}
    return {name: preset for name, preset in presets.items() if name not in GENERAL}


def rows() -> dict[str, dict[str, str]]:
    """Cells of the page's tables by preset and column."""
    found: dict[str, dict[str, str]] = {}
    header: list[str] = []
    for line in page().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "preset":
            header = cells
        elif line.startswith("| `"):
            found[cells[0].strip("`")] = dict(zip(header, cells, strict=True))
    return found


def test_the_page_is_what_the_generator_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    # building every model takes long; their parameters are compared below
    counts = {name: 1e6 * float(row["parameters"]) for name, row in rows().items()}
    monkeypatch.setattr(make_zoo, "num_parameters", lambda preset: counts.get(preset.name, 0))
    assert page() == make_zoo.zoo_page(), "run: python docs/make_zoo.py"


def test_the_readme_has_the_table_that_the_generator_writes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == make_zoo.with_table(readme), "run: python docs/make_zoo.py"


def test_every_preset_has_a_row() -> None:
    assert list(rows()) == list(shown())
    # specification 1.2, row 5
    assert rows()["ade20k-semantic-resnet101"] == {
        "preset": "`ade20k-semantic-resnet101`",
        "backbone": "R101",
        "parameters": "63.0",
        "training": "160k steps",
        "mIoU": "47.8",
        "mIoU ms": "50.1",
        "weights": "[48243040_0, 0d68be](https://dl.fbaipublicfiles.com/maskformer/mask2former/"
        "ade20k/semantic/maskformer2_R101_bs16_90k/model_final_0d68be.pkl)",
    }
    assert rows()["coco-semantic-swin-tiny"]["weights"] == "none"


def test_every_table_has_the_commands_that_its_presets_allow() -> None:
    lines = page().splitlines()
    families = {(preset.data, preset.tasks): preset.name for preset in reversed(shown().values())}
    assert sum(line.startswith("| preset ") for line in lines) == len(families)
    for name in families.values():
        evaluated = any(
            line.startswith(f"mask2former evaluate --weights {name} ") for line in lines
        )
        trained = any(line.startswith(f"mask2former train --preset {name} ") for line in lines)
        predicted = any(line.startswith(f"mask2former predict --weights {name} ") for line in lines)
        assert trained == (name in all_presets())
        assert evaluated == (name in all_presets() and name in all_published())
        assert predicted == (name not in all_presets())


@needs_specification
def test_parameters_are_those_of_the_specification() -> None:
    counts = {row.file_suffix: float(row.parameters) for row in specified_rows()}
    assert len(counts) == 59
    for name, preset in all_published().items():
        # half of the last digit shown here, and of the last digit there
        error = abs(float(rows()[name]["parameters"]) - counts[preset.file_suffix or ""])
        assert error <= 0.05 + 0.0005 + 1e-9


def test_parameters_are_counted_of_the_model() -> None:
    # specification 2.10
    assert make_zoo.num_parameters(all_presets()["coco-instance-resnet50"]) == 43_970_257


def test_the_table_of_the_readme_has_the_main_metric_of_every_image_model() -> None:
    lines = make_zoo.readme_table().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    backbones = cells[0][1:]
    assert backbones == [
        "R50", "R101", "Swin-T", "Swin-S", "Swin-B", "Swin-B (21k)", "Swin-L (21k)",
    ]  # fmt: skip
    table = {row[0]: dict(zip(backbones, row[1:], strict=True)) for row in cells[2:]}
    # specification 1.2, rows 38, 5, 14 and 47
    assert table["COCO panoptic, PQ"]["R50"] == "51.9"
    assert table["ADE20K semantic, mIoU"]["R101"] == "47.8"
    assert table["Cityscapes instance, AP"]["Swin-B (21k)"] == "42.0"
    assert table["Cityscapes instance, AP"]["Swin-B"] == ""
    assert table["Mapillary Vistas semantic, mIoU"]["Swin-L (21k)"] == "63.2"
    filled = [cell for row in table.values() for cell in row.values() if cell]
    assert len(filled) == 47


def test_a_readme_without_the_comments_is_told_to_have_them() -> None:
    with pytest.raises(ValueError, match="the README lacks <!-- published models"):
        make_zoo.with_table("# mask2former\n")
    with pytest.raises(ValueError, match="the README lacks <!-- end of published models -->"):
        make_zoo.with_table(make_zoo.BEGIN)
