"""The configuration of a run: one frozen model per part, read here, passed on as plain values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    model_validator,
)

from mask2former.config_part import Fraction, Part, Positive
from mask2former.config_training import Optimizer, Schedule, Training
from mask2former.fractions import Fractions, check_fractions
from mask2former.tasks import Task

NO_DATA = "no data; give --data DIR, or data.paths in the configuration"


def as_several(value: Any) -> Sequence[Any]:
    """The folders that are meant: a path alone is one of them, and none is none.

    Raises:
        ValueError: It is something else.
    """
    if value is None:
        return ()
    folders = (value,) if isinstance(value, str | Path) else value
    if not isinstance(folders, list | tuple) or not all(
        isinstance(folder, str | Path) for folder in folders
    ):
        raise ValueError(f"{value} is no folder; give a folder, or a list of folders")
    return folders


class Backbone(Part):
    name: str = Field(description="resnet50, swin_tiny, ... or any timm model with feature maps")
    pretrained: bool = Field(description="start from ImageNet weights, downloaded through timm")
    norm: Literal["frozen", "sync", "batch"] = Field(
        default="frozen",
        description="batch norm: fixed statistics, statistics over all ranks, or of one rank",
    )
    drop_path: Fraction = Field(default=0.0, description="stochastic depth of the last block")
    freeze: int = Field(
        default=0,
        ge=0,
        le=5,
        description="stages that keep their weights: 0 none, 1 the stem, 2 to 5 also what makes "
        "stride 4, 8, 16, 32 (of a plain ViT, quarters of its blocks)",
    )


class Model(Part):
    backbone: Backbone
    num_queries: Positive = 100
    hidden_dim: Positive = 256
    num_heads: Positive = 8
    encoder_layers: Positive = 6
    encoder_feedforward_dim: Positive = 1024
    decoder_layers: Positive = 9
    decoder_feedforward_dim: Positive = 2048


class Loss(Part):
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = Field(default=0.1, description="inside the class loss's average")
    num_points: Positive = 12544
    oversample_ratio: float = Field(default=3.0, ge=1)
    importance_ratio: Fraction = 0.75


class LargeScaleJitter(Part):
    """Flip, resize by a random scale of `crop`, crop or pad to exactly `crop`."""

    kind: Literal["large_scale_jitter"] = "large_scale_jitter"
    crop: tuple[Positive, Positive] = Field(default=(1024, 1024), description="(height, width)")
    min_scale: float = Field(default=0.1, gt=0)
    max_scale: float = Field(default=2.0, gt=0)
    flip_probability: Fraction = 0.5
    color_jitter: bool = False


class ShortestEdgeCrop(Part):
    """Resize to a random shortest edge, crop, colour jitter, flip, pad."""

    kind: Literal["shortest_edge_crop"] = "shortest_edge_crop"
    short_sides: tuple[Positive, ...] = Field(description="pixels; one is drawn per image")
    max_long_side: Positive
    crop: tuple[Positive, Positive] = Field(description="(height, width)")
    flip_probability: Fraction = 0.5
    color_jitter: bool = True
    pad_to_crop: bool = True


class TestSize(Part):
    """Size of images in evaluation and prediction."""

    __test__ = False

    short_side: Positive = 800
    max_long_side: Positive = 1333


class TestTimeAugmentation(Part):
    """Sizes at which one image is predicted; the predictions are averaged."""

    __test__ = False

    short_sides: tuple[Positive, ...] = Field(min_length=1, description="pixels")
    max_long_side: Positive
    flip: bool = Field(default=True, description="each size mirrored as well")


def sizes_around(short_side: int) -> TestTimeAugmentation:
    """Half to 1.75 times the size of evaluation in steps of a quarter.

    A model that never saw such sizes in training loses by them: give it a list of its own.

    Source:
        Specification 1.2: what the authors list for ADE20K and Cityscapes (rows 5-11, 24-29), with
        the limit that they have for ADE20K.
    """
    sides = tuple(max(1, quarters * short_side // 4) for quarters in range(2, 8))
    return TestTimeAugmentation(short_sides=sides, max_long_side=7 * short_side)


class Data(Part):
    paths: Annotated[tuple[Path, ...], BeforeValidator(as_several)] = Field(
        default=(),
        validation_alias=AliasChoices("paths", "path"),
        description="folders; several are one data set, their classes merged by name",
    )
    shares: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None,
        description="of the images drawn, one number a folder; none: by their numbers of images",
    )
    format: str | None = Field(default=None, description="none: found by looking")
    split_fractions: Fractions | None = Field(
        default=None,
        description="(train, val) or (train, val, test) of images without splits; sum 1",
    )
    train_split: str = "train"
    val_split: str | None = Field(default=None, description="none: val, valid or validation")
    repeat_threshold: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of images; classes in fewer are shown more often (LVIS); none: never",
    )
    ignore_index: int = Field(default=255, description="value of PNG masks that is not scored")
    augmentation: Annotated[LargeScaleJitter | ShortestEdgeCrop, Field(discriminator="kind")]
    copy_paste: Fraction = Field(
        default=0.0,
        description="probability that a training image gets objects of another one, moved by an "
        "augmentation of its own",
    )
    test_size: TestSize = TestSize()
    tta: TestTimeAugmentation | None = Field(
        default=None,
        description="test-time augmentation, where asked for; none: half to 1.75 times test_size",
    )
    workers: int = Field(default=4, ge=0, description="loader processes per rank")

    @property
    def tta_sizes(self) -> TestTimeAugmentation:
        """As given, or else `sizes_around` the size of evaluation."""
        return self.tta or sizes_around(self.test_size.short_side)

    @model_validator(mode="after")
    def has_a_share_for_each_folder(self) -> "Data":
        if self.shares is not None and len(self.shares) != len(self.paths):
            raise ValueError(
                f"{len(self.shares)} shares for {len(self.paths)} folders; give one for each"
            )
        return self

    @model_validator(mode="after")
    def has_fractions_of_a_whole(self) -> "Data":
        if self.split_fractions is not None:
            check_fractions(self.split_fractions)
        return self


class Inference(Part):
    panoptic_score_threshold: Fraction = 0.8
    panoptic_overlap_threshold: Fraction = 0.8
    max_instances: Positive = 100


class Run(Part):
    """Everything that a training run needs, and that its checkpoint carries."""

    preset: str
    task: Task
    weights: str | None = Field(
        default=None, description="a trained model, or a backbone's file, to start from"
    )
    model: Model
    loss: Loss = Loss()
    data: Data
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    training: Training
    inference: Inference = Inference()
