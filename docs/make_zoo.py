"""Writes docs/zoo.md and the table of README.md from the presets: `python docs/make_zoo.py`."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from mask2former.config import Model
from mask2former.data.class_tables import class_table
from mask2former.presets import PUBLISHED_BACKBONES, Preset, all_presets, all_published
from mask2former.weights.build import build_empty
from mask2former.weights.locate import AUTHORS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
ZOO = ROOT / "docs" / "zoo.md"
BEGIN = "<!-- published models: written by docs/make_zoo.py -->"
END = "<!-- end of published models -->"

FOLDERS = {
    "COCO": "coco",
    "ADE20K": "ADEChallengeData2016",
    "Cityscapes": "cityscapes",
    "Mapillary Vistas": "mapillary_vistas",
}
"""As docs/benchmarks.md calls them; videos are not scored."""
BACKBONE_TITLES = {
    "resnet50": "R50",
    "resnet101": "R101",
    "swin_tiny": "Swin-T",
    "swin_small": "Swin-S",
    "swin_base": "Swin-B",
    "swin_base_in21k": "Swin-B (21k)",
    "swin_large": "Swin-L (21k)",
}
INTRODUCTION = """\
<!-- written by docs/make_zoo.py: change that, or the presets, and run it again -->

# Published models

Every model of the authors' zoo has a name here. `--weights NAME` downloads the authors' file, and
`--preset NAME` trains by their recipe. **The results are the authors' numbers**, in percent, on the
validation sets at a single scale; `ms` is at several scales, flipped (`--tta`). We have not
measured them again. Their mIoU is what `mask2former evaluate` calls `mIoU_2022`: as detectron2
counted it then, a class that is predicted but nowhere true has an IoU of 0. Parameters, in
millions, are counted of our models. Swin-B (21k) and Swin-L start from ImageNet-21k, the others
from ImageNet-1k. The weights are under CC-BY-NC 4.0.

Data sets are read as they are downloaded: [benchmarks.md](benchmarks.md). `mask2former presets`
lists the same, with `--json` for programs; `mask2former presets NAME` shows the whole configuration
of one.
"""
UNPUBLISHED = """\
The zoo has none of these. They are trained as the panoptic ones of the same backbone, on maps of
all 133 classes; evaluate the folder of your run.
"""
VIDEOS = """\
Video models open as models of single frames. They cannot be trained here, and their AP is of whole
videos, which frames alone do not give.
"""


def zoo_page() -> str:
    """What docs/zoo.md is to hold."""
    return "\n".join([INTRODUCTION, *map(_section, _families())])


def readme_table() -> str:
    """What is to stand between the comments of README.md: the first metric of each model."""
    header = ["", *BACKBONE_TITLES.values()]
    rows = []
    for family in _families():
        if family[0].published and family[0].name in all_presets():
            metric = next(iter(family[0].published))
            cells = {preset.backbone.name: f"{preset.published[metric]:.1f}" for preset in family}
            title = f"{_title(family)}, {metric}"
            rows.append([title, *(cells.get(name, "") for name in PUBLISHED_BACKBONES)])
    return "\n".join(_table(header, rows))


def with_table(readme: str) -> str:
    """The text of README.md with what `readme_table` gives.

    Raises:
        ValueError: It lacks one of the two comments.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f"the README lacks {END if begin else BEGIN}; put both comments around the table"
        )
    return f"{before}{BEGIN}\n{readme_table()}\n{END}{after}"


def _families() -> list[list[Preset]]:
    """Presets for one task of one data set, in the order to show them."""
    presets = {**all_presets(), **all_published()}.values()
    known = [preset for preset in presets if preset.classes is not None]
    groups = groupby(known, key=lambda preset: (preset.data, preset.tasks[0]))
    return [list(group) for _, group in groups]


def _title(family: Sequence[Preset]) -> str:
    return f"{family[0].data} {family[0].tasks[0]}"


def _section(family: Sequence[Preset]) -> str:
    """Title, what they have in common, the table and the commands."""
    first = family[0]
    run = first.run()
    assert first.classes is not None, "families are of class tables"
    num_classes = len(class_table(first.classes))
    common = f"{num_classes} classes, batch {run.training.batch_size}, schedule {first.decay}."
    size = run.data.test_size
    tested = f"Tested at {_test_sides(family)} px, at most {size.max_long_side} px."
    lines = [f"## {_title(family)}", "", f"{common} {tested}", ""]
    if first.checkpoint is None:
        lines += [UNPUBLISHED]
    elif first.data not in FOLDERS:
        lines += [VIDEOS]
    return "\n".join([*lines, *_models(family), "", *_commands(family), ""])


def _test_sides(family: Sequence[Preset]) -> str:
    sides = sorted({preset.run().data.test_size.short_side for preset in family})
    return " or ".join(map(str, sides))


def _models(family: Sequence[Preset]) -> Iterator[str]:
    """The table of models."""
    metrics = list(family[0].published)
    over_scales = list(family[0].multi_scale)
    header = ["preset", "backbone", "parameters", "training", *metrics]
    header += [f"{metric} ms" for metric in over_scales] + ["weights"]
    rows = [
        [
            f"`{preset.name}`",
            BACKBONE_TITLES[preset.backbone.name],
            f"{num_parameters(preset) / 1e6:.1f}",
            preset.length,
            *(f"{preset.published[metric]:.1f}" for metric in metrics),
            *(f"{preset.multi_scale[metric]:.1f}" for metric in over_scales),
            _weights(preset),
        ]
        for preset in family
    ]
    return _table(header, rows)


def num_parameters(preset: Preset) -> int:
    """Of the model with the classes that it was published with; all of them learn."""
    assert preset.classes is not None, "the number of classes is that of the data"
    return _num_parameters(preset.run().model, len(class_table(preset.classes)))


@cache
def _num_parameters(model: Model, num_classes: int) -> int:
    return sum(parameter.numel() for parameter in build_empty(model, num_classes).parameters())


def _weights(preset: Preset) -> str:
    if preset.checkpoint is None:
        return "none"
    return f"[{preset.zoo_id}, {preset.file_suffix}]({AUTHORS}{preset.checkpoint})"


def _commands(family: Sequence[Preset]) -> Iterator[str]:
    """A block that evaluates and trains the first of them."""
    preset = family[0]
    folder = FOLDERS.get(preset.data)
    yield "The same commands go for each name of the table:"
    yield ""
    yield "```bash"
    if folder is None:
        yield f"mask2former predict --weights {preset.name} frames --output predictions"
    elif preset.checkpoint is None:
        # COCO's files of objects would make a semantic data set as well
        yield f"mask2former train --preset {preset.name} --data {folder} --format coco-panoptic"
        yield "mask2former evaluate --weights runs/coco-1 --data coco --format coco-panoptic"
    else:
        yield f"mask2former evaluate --weights {preset.name} --data {folder}"
        yield f"mask2former train --preset {preset.name} --data {folder}"
    yield "```"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in [header, ["---"] * len(header), *rows]:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    ZOO.write_text(zoo_page(), encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
