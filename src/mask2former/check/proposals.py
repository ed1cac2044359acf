"""Proposals for a configuration that fits a data set better than the preset: nothing is applied."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from mask2former.batch_rule import rate_for_batch
from mask2former.check.needs import Needs, Proposal, measure
from mask2former.check.proposed_sizes import propose_sizes
from mask2former.check.survey import Split
from mask2former.config import Run
from mask2former.config_io import merge, parse_overrides, parse_run
from mask2former.fractions import format_fractions

Rule: TypeAlias = Callable[[Needs, Run], Iterator[Proposal]]
"""What a data set needs, and the run with what earlier rules propose."""

HEADROOM = 1.5
"""Queries for each object of the fullest images."""
FULLEST = 0.999
"""Quantile of the numbers of objects an image: below a thousand images, the fullest one."""
QUERIES_STEP = 50
MOST_QUERIES = 900
"""As DINO (Zhang et al., 2022) has, the most in wide use; every one costs in each layer."""

MOST_EPOCHS = 500
"""The authors see the images of Cityscapes, their smallest data set, 484 times."""
FEWEST_EPOCHS = 12
"""The shortest schedule that is reported for COCO: Mask2Former with a ResNet-50 has an AP of 38.7
after 12 epochs and 43.7 after 50 (Mask DINO, Li et al., 2023)."""
FEWEST_STEPS = 2500
"""The decoders start at random, and learn to find anything in a few thousand steps."""
WORTH_A_CHANGE = 1.25
"""Factor of a run's length."""
SCORED = 4
"""Times at least that a run is scored when its length is changed."""
EVALUATIONS = 10

FEW_IMAGES = 200
"""To freeze the early stages for."""
FROZEN = 2
"""The stem and the stage at stride 4: what detectron2 freezes (`FREEZE_AT`) and torchvision
(3 of 5 layers are trained) when their detectors start from ImageNet."""
FEW_OBJECTS = 10_000
"""To paste copies for."""
PASTED = 0.5
LONG_TAIL = 100
"""Times as many images show the most frequent class as the rarest; as for the warning."""
MOST_REPEATS = 10
"""Of an image with the rarest class, where the threshold is LVIS's: 0.001, for a class in one of
100,000 images."""
LEAST_REPEATS = 2


def propose(splits: Mapping[str, Split], run: Run) -> list[Proposal]:
    """What would fit a data set better than a run as its preset has it.

    Args:
        splits: As `survey` made them.
        run: What would be trained.

    Returns:
        By key, each at most once; none where there is nothing to train on. All of them together
        are a valid configuration.
    """
    needs = measure(splits, run.task)
    if not needs.num_images or not len(needs.relative_sides):
        return []
    proposals: list[Proposal] = []
    for rule in RULES:
        proposals += rule(needs, with_proposals(run, proposals))
    return proposals


def with_proposals(run: Run, proposals: Sequence[Proposal]) -> Run:
    """The run that `train` makes of it when it is given these proposals by `--set`.

    Raises:
        ValueError: They are no valid configuration.
    """
    return parse_run(merge(run.model_dump(), parse_overrides(p.override for p in proposals)))


def train_command(run: Run, proposals: Sequence[Proposal] = ()) -> list[str]:
    """The words of the command that trains a run, with proposals or without."""
    words = ["mask2former", "train"]
    for path in run.data.paths:
        words += ["--data", str(path)]
    words += ["--task", run.task]
    if run.preset != run.task:
        words += ["--preset", run.preset]
    if run.data.format is not None:
        words += ["--format", run.data.format]
    if run.data.split_fractions is not None:
        words += ["--split", format_fractions(run.data.split_fractions)]
    return words + [word for p in proposals for word in ("--set", p.override)]


def propose_queries(needs: Needs, run: Run) -> Iterator[Proposal]:
    """More queries where images are fuller than the preset's can find.

    A query finds one object at most, and each has learnt to look at places and sizes of its own, so
    that the last ones do not find what is left. Fewer than the preset has are never proposed: they
    save little, and of trained weights those of the others would be lost.

    Source:
        DETR (Carion et al., 2020), on many objects of a class in one image: 100 queries find all of
        up to 50 objects, and fewer and fewer of more.
    """
    fullest = int(np.quantile(needs.counts, FULLEST, method="higher"))
    now = run.model.num_queries
    wanted = min(MOST_QUERIES, QUERIES_STEP * math.ceil(HEADROOM * fullest / QUERIES_STEP))
    if HEADROOM * fullest > now and wanted > now:
        tiles = "; images cut into tiles would need fewer" if fullest > MOST_QUERIES / 2 else ""
        yield Proposal(
            "model.num_queries",
            wanted,
            now,
            f"the fullest images show {fullest} objects, and {now} queries find one each at most; "
            f"a trained model of {now} keeps them, and the others start at random{tiles}",
        )
    most = run.inference.max_instances
    if run.task != "semantic" and fullest > most:
        yield Proposal(
            "inference.max_instances",
            max(wanted, now),
            most,
            f"the fullest images show {fullest} objects, of which a prediction keeps {most}",
        )


def propose_batch(needs: Needs, run: Run) -> Iterator[Proposal]:
    """No more images a step than there are, as a power of two: others would be seen twice in it.

    The learning rate is not proposed, since `train` lets it follow the batch.
    """
    now = run.training.batch_size
    if needs.num_images < now:
        value = 2 ** int(math.log2(needs.num_images))
        rate = run.optimizer.learning_rate
        reason = (
            f"{_counted(needs.num_images, 'image')} to train on, of which a step of {now} would "
            f"show some more than once; the learning rate follows by itself: {rate:g} x "
            f"sqrt({value} / {now}) = {rate_for_batch(rate, now, value):.3g}"
        )
        yield Proposal("training.batch_size", value, now, reason)


def propose_length(needs: Needs, run: Run) -> Iterator[Proposal]:
    """As many steps as show every image 12 to 500 times, and not fewer than a model needs.

    Few images seen thousands of times are learnt by heart; many images seen once are hardly learnt.
    """
    steps, batch = run.training.steps, run.training.batch_size
    if steps is None:
        return
    epochs = steps * batch / needs.num_images
    if FEWEST_EPOCHS <= epochs <= MOST_EPOCHS:
        return
    few = epochs < FEWEST_EPOCHS
    wanted = (FEWEST_EPOCHS if few else MOST_EPOCHS) * needs.num_images / batch
    value = _two_digits(wanted if few else max(wanted, FEWEST_STEPS))
    if (value > steps) != few or _is_close(value, steps):
        return
    yield Proposal(
        "training.steps",
        value,
        steps,
        f"{steps} steps of {batch} show each of {_counted(needs.num_images, 'image')} "
        f"{_short(epochs)} times, {value} steps {_short(value * batch / needs.num_images)} times",
    )
    every = run.training.eval_every
    if every is not None and every * SCORED > value:
        reason = f"{EVALUATIONS} times in {value} steps"
        yield Proposal("training.eval_every", math.ceil(value / EVALUATIONS), every, reason)


def propose_frozen_stages(needs: Needs, run: Run) -> Iterator[Proposal]:
    """Pretrained early stages keep their weights where a few images would change them.

    Source:
        Yosinski et al., 2014: the first layers of a network carry over to other data; those of
        detectors are kept by default in detectron2 and torchvision.
    """
    backbone = run.model.backbone
    is_pretrained = backbone.pretrained or run.weights is not None
    if is_pretrained and backbone.freeze < FROZEN and needs.num_images < FEW_IMAGES:
        reason = (
            f"{_counted(needs.num_images, 'image')} to train on, too few to improve on the first "
            "stages of a pretrained backbone"
        )
        yield Proposal("model.backbone.freeze", FROZEN, backbone.freeze, reason)


def propose_copies(needs: Needs, run: Run) -> Iterator[Proposal]:
    """Copies of objects pasted into other images where there are few objects.

    Source:
        Ghiasi et al., 2021: of all shares of COCO that they train on, the smallest ones (of 10 %,
        about 86,000 objects, and less) gain the most.
    """
    now = run.data.copy_paste
    if run.task == "semantic" or now > 0 or needs.num_images < 2:
        return
    if 0 < needs.num_things < FEW_OBJECTS:
        reason = (
            f"{_counted(needs.num_things, 'object')} of countable classes; pasted into other "
            "images, they are seen beside and behind others"
        )
        yield Proposal("data.copy_paste", PASTED, now, reason)


def propose_repeats(needs: Needs, run: Run) -> Iterator[Proposal]:
    """Images of rare classes are shown more often where classes have a long tail.

    The rarest class is shown up to 10 times as often; one that is as frequent as the median is not.

    Source:
        LVIS (Gupta et al., 2019), repeat factor sampling, whose threshold of 0.001 is 100 times the
        share of a class in one of its 100,000 images.
    """
    shares = needs.class_shares
    if run.data.repeat_threshold is not None or shares.max() < LONG_TAIL * shares.min():
        return
    rarest = float(shares.min())
    threshold = float(f"{min(MOST_REPEATS**2 * rarest, float(np.median(shares))):.2g}")
    if threshold < LEAST_REPEATS**2 * rarest:
        return
    images = len(needs.short_sides)
    yield Proposal(
        "data.repeat_threshold",
        threshold,
        None,
        f"the rarest class is in {round(rarest * images)} of {images} images and the most frequent "
        f"in {round(float(shares.max()) * images)}; images of classes in fewer than "
        f"{threshold:.2%} are shown up to {math.sqrt(threshold / rarest):.1f} times as often",
    )


RULES: tuple[Rule, ...] = (
    propose_sizes,
    propose_queries,
    propose_batch,
    propose_length,
    propose_frozen_stages,
    propose_copies,
    propose_repeats,
)


def _two_digits(value: float | int) -> int:
    """Rounded up."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return step * math.ceil(value / step)


def _is_close(value: int, other: int) -> bool:
    return max(value / other, other / value) < WORTH_A_CHANGE


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
