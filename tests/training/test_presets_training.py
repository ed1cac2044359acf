"""How every published preset is trained, against the specification, over the real models."""

import csv
import re
from functools import cache

import pytest
import torch

from mask2former.config import Backbone, Run
from mask2former.data.class_tables import class_table
from mask2former.model.mask2former import Mask2Former
from mask2former.presets import all_presets, all_published, find_preset
from mask2former.training.module import TrainingModule
from mask2former.training.optimizer import parameter_groups
from mask2former.weights.build import build_empty
from specification import FOLDER, TEXT, Row, needs_specification, specified_rows

TRAINABLE = [name for name in all_presets() if name in all_published()]
COCO_SEMANTIC = [name for name in all_presets() if name.startswith("coco-semantic-")]
NUM_STEPS_COMPARED = 20
PACKED_QUERY_KEY_VALUE = 72
"""The release packs query, key and value of each of 18 attentions into one weight and one bias:
18 * 2 * 2 tensors fewer than here."""

RESNET_CONVOLUTIONS = {"resnet50": 53, "resnet101": 104}
SWIN_BLOCKS = {
    "swin_tiny": 12,
    "swin_small": 24,
    "swin_base": 24,
    "swin_base_in21k": 24,
    "swin_large": 24,
}


def cells_of(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


@cache
def specified() -> dict[str, Row]:
    """Rows of the table of configurations by the suffix of their file."""
    return {row.file_suffix: row for row in specified_rows()}


@cache
def specified_counts() -> dict[tuple[str, str, str], tuple[int, int]]:
    """Parameters in all and of the backbone, by (backbone, classes, queries)."""
    lines = TEXT.read_text(encoding="utf-8").splitlines()
    rows = [cells_of(line) for line in lines if re.match(r"\| (R\d+|Swin-\w) .*\d,\d{3}", line)]
    return {
        (row[0], row[1], row[2]): (
            int(row[3].replace(",", "")),
            int(row[4].replace(",", "")),
        )
        for row in rows
        if len(row) == 9
    }


@cache
def model_of(name: str) -> Mask2Former:
    """Without memory: counting and naming need none."""
    preset = find_preset(name)
    assert preset.classes is not None
    return build_empty(preset.run().model, len(class_table(preset.classes)))


def groups_of(model: Mask2Former, run: Run) -> dict[tuple[float, float], tuple[int, int]]:
    """(learning rate, weight decay) to (tensors, numbers)."""
    groups = parameter_groups(model, run.optimizer)
    return {
        (round(group["lr"], 9), group["weight_decay"]): (
            len(group["params"]),
            sum(parameter.numel() for parameter in group["params"]),
        )
        for group in groups
    }


def backbone_tensors(backbone: Backbone) -> tuple[int, int]:
    """(that decay, that do not), counted by hand from the architectures."""
    if backbone.name in RESNET_CONVOLUTIONS:
        # a convolution without bias and a norm of two tensors, again and again
        convolutions = RESNET_CONVOLUTIONS[backbone.name]
        return convolutions, 0 if backbone.norm == "frozen" else 2 * convolutions
    blocks = SWIN_BLOCKS[backbone.name]
    # the patches' weight and bias; four linear layers a block; three mergers without bias.
    # Norms: after the patches, two a block, three mergers, four outputs; a table a block.
    return 2 + 8 * blocks + 3, 2 * (1 + 2 * blocks + 3 + 4) + blocks


@needs_specification
@pytest.mark.parametrize("name", TRAINABLE)
def test_optimizer_groups_are_those_of_the_specification(name: str) -> None:
    preset = find_preset(name)
    run = preset.run()
    row = specified()[preset.file_suffix or ""]
    groups = groups_of(model_of(preset.name), run)
    decaying, steady = backbone_tensors(preset.backbone)
    rest = {
        (1e-4, 0.05): 199 + PACKED_QUERY_KEY_VALUE,
        (1e-4, 0.0): 93,
        (1e-5, 0.05): decaying,
        (1e-5, 0.0): steady,
    }
    assert {rates: tensors for rates, (tensors, _) in groups.items()} == {
        rates: tensors for rates, tensors in rest.items() if tensors
    }
    # 4.1, of 100 queries: each has two embeddings of 256 numbers
    assert groups[1e-4, 0.0][1] == 75_008 + 512 * (int(row.queries) - 100)
    total, of_backbone = specified_counts()[row.backbone, row.num_classes, row.queries]
    assert sum(numbers for _, numbers in groups.values()) == total
    assert sum(numbers for (rate, _), (_, numbers) in groups.items() if rate == 1e-5) == of_backbone
    assert f"{total / 1e6:.3f}" == row.parameters


def specified_rate(row: Row, base: float, step: int) -> float:
    """Section 4.2: poly, or a tenth from each of the steps on; no warm-up."""
    kind, values = row.schedule.split()
    if kind == "poly":
        return base * (1 - step / int(row.iterations)) ** float(values)
    return base * 0.1 ** sum(int(value) <= step for value in values.split(","))


def compared_steps(row: Row) -> list[int]:
    """Evenly over the run, and both sides of every drop."""
    spread = [
        round(i * (int(row.iterations) - 1) / (NUM_STEPS_COMPARED - 1))
        for i in range(NUM_STEPS_COMPARED)
    ]
    kind, values = row.schedule.split()
    drops = [int(value) for value in values.split(",")] if kind == "step" else []
    return [*spread, *drops, *(drop - 1 for drop in drops)]


@needs_specification
@pytest.mark.parametrize("name", TRAINABLE)
def test_learning_rates_of_a_run_are_those_of_the_specification(name: str) -> None:
    preset = find_preset(name)
    run = preset.run()
    row = specified()[preset.file_suffix or ""]
    base = float(row.batch.split(" · ")[1])
    num_steps = run.training.steps
    assert num_steps is not None
    # a small model: which tensors learn at which rate is compared above
    module = TrainingModule(model_of("ade20k-instance-resnet50"), run, num_steps)
    scheduler = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
    assert {round(rate, 9) for rate in scheduler.base_lrs} == {base, base / 10}
    for step in compared_steps(row):
        # what the scheduler computes after so many steps
        rates = [
            rate * factor(step)
            for rate, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        assert max(rates) == pytest.approx(specified_rate(row, base, step), rel=1e-9, abs=0)
        assert min(rates) == pytest.approx(specified_rate(row, base / 10, step), rel=1e-9, abs=0)


def test_a_run_takes_the_rates_that_the_schedule_names() -> None:
    # poly over 20 steps, by hand: 1e-4 * (1 - t / 20)^0.9; 1e-5 for the backbone
    preset = find_preset("ade20k-semantic-swin-tiny")
    run = preset.run()
    module = TrainingModule(model_of(preset.name), run, NUM_STEPS_COMPARED)
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for step in range(NUM_STEPS_COMPARED):
        rates = {group["lr"] for group in optimizer.param_groups}
        expected = (1 - step / NUM_STEPS_COMPARED) ** 0.9
        assert sorted(rates) == pytest.approx([1e-5 * expected, 1e-4 * expected])
        optimizer.step()
        scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}


@needs_specification
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("coco-instance-resnet50", "official_keys_coco_ins_r50.tsv"),
        ("coco-instance-swin-tiny", "official_keys_coco_ins_swin_t.tsv"),
    ],
)
def test_groups_have_the_tensors_of_the_release(name: str, keys: str) -> None:
    with (FOLDER / keys).open(encoding="utf-8") as file:
        parameters = [row[0] for row in csv.reader(file, delimiter="\t") if row[3] == "P"]
    of_backbone = [key for key in parameters if key.startswith("backbone.")]
    preset = find_preset(name)
    run = preset.run()
    groups = groups_of(model_of(preset.name), run)
    ours = sum(tensors for (rate, _), (tensors, _) in groups.items() if rate == 1e-5)
    assert ours == len(of_backbone)
    others = sum(tensors for (rate, _), (tensors, _) in groups.items() if rate == 1e-4)
    assert others - PACKED_QUERY_KEY_VALUE == len(parameters) - len(of_backbone)


@pytest.mark.parametrize("name", COCO_SEMANTIC)
def test_coco_semantic_is_trained_as_coco_panoptic_with_100_queries(name: str) -> None:
    run = find_preset(name).run()
    panoptic = find_preset(name.replace("semantic", "panoptic")).run()
    for part in ("loss", "data", "optimizer", "schedule", "training"):
        assert getattr(run, part) == getattr(panoptic, part)
    assert run.model.backbone == panoptic.model.backbone
    # notes of 1.2: semantic Swin-L has 100 where others have 200
    assert run.model.num_queries == 100
