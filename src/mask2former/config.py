"""The configuration of a run: one frozen model per part, read here, passed on as plain values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from mask2former.byte_sizes import parse_size
from mask2former.fractions import Fractions, check_fractions
from mask2former.tasks import Task

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Precision: TypeAlias = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
LoggerName: TypeAlias = Literal["tensorboard", "csv", "wandb", "mlflow"]


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


def as_memory_limit(value: Any) -> int | Literal["auto"] | None:
    """Bytes, "auto", or none for no limit; sizes may have units.

    Raises:
        ValueError: It is something else.
    """
    if value is None or value == "auto":
        return value
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{value} is no limit; give auto, a size such as 6GiB, or nothing")
    return value


class Part(BaseModel):
    """Unknown keys and later changes are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Optimizer(Part):
    learning_rate: float = Field(default=1e-4, gt=0)
    backbone_learning_rate_factor: float = Field(default=0.1, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=0.01, gt=0, description="L2 norm over all gradients")
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="learning rate of a block of the backbone, as a factor of the next block's; "
        "for ViTs such as 0.8, with backbone_learning_rate_factor 1",
    )


class Schedule(Part):
    kind: Literal["poly", "step"]
    power: float = Field(default=0.9, gt=0, description="of the poly schedule")
    milestones: tuple[Fraction, ...] = Field(
        default=(), description="of the step schedule, as fractions of the run; x 0.1 at each"
    )
    warmup_steps: int = Field(default=0, ge=0, description="linear, from 0")

    @model_validator(mode="after")
    def has_milestones_to_step_at(self) -> "Schedule":
        if (self.kind == "step") != bool(self.milestones):
            raise ValueError(
                f"kind = {self.kind} and milestones = {list(self.milestones)}; a step schedule "
                "needs milestones such as [0.9, 0.95], a poly schedule has none"
            )
        return self


class Training(Part):
    steps: Positive | None = None
    epochs: Positive | None = None
    batch_size: Positive = Field(default=16, description="images per step, over all ranks")
    images_per_pass: Positive | None = Field(
        default=None,
        description="of a device's images of a step, those that go through the model together: "
        "fewer take less memory and the same step; none: all",
    )
    checkpoint_activations: bool = Field(
        default=False,
        description="compute activations again in the backward pass instead of keeping them: less "
        "memory, a longer step, the same gradients",
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="of several processes: ddp: each has the whole model; fsdp: parameters, "
        "gradients and optimizer state are divided among them, for a model that does not fit",
    )
    fit_memory: Annotated[int | Literal["auto"] | None, BeforeValidator(as_memory_limit)] = Field(
        default=None,
        description="memory of a device, such as 6GiB, or auto for what is free: images_per_pass "
        "and checkpoint_activations are chosen at the start so that a step fits; none: as they are",
    )
    on_oom: Literal["stop", "shrink"] = Field(
        default="stop",
        description="when a step runs out of memory: stop, or repeat it with fewer images at a "
        "time, then with recomputed activations, which is the same step",
    )
    ema_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="score and save weights averaged over about 1 / (1 - this) steps, such as "
        "0.999; none: the last ones",
    )
    compile: bool = Field(
        default=False, description="torch.compile of the model: minutes at the start, faster steps"
    )
    channels_last: bool = Field(
        default=False, description="channels side by side in memory, for convolutions"
    )
    deterministic: bool = Field(
        default=False,
        description="the same numbers in every run on one kind of device, in more time",
    )
    eval_every: Positive | None = Field(default=None, description="steps; none: 10 times a run")
    patience: Positive | None = Field(
        default=None,
        description="evaluations in a row without a better main metric after which the run ends; "
        "none: it runs to its end",
    )
    save_every: Positive | None = Field(
        default=None,
        description="steps between saved states, besides those of evaluations; none: only those",
    )
    requeue: bool = Field(
        default=False,
        description="SIGUSR1 puts a job of SLURM back into its queue once the state is saved",
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        default="stop",
        description="a step whose loss or gradients are not finite stops the run, or is left out",
    )
    max_skipped: Positive = Field(
        default=10, description="steps that are not finite, in a row, after which a run stops"
    )
    log_every: Positive = 20
    log_layers: bool = Field(default=False, description="also the losses of every prediction layer")
    loggers: tuple[LoggerName, ...] = Field(
        default=("tensorboard",),
        description="tensorboard, csv, wandb, mlflow; metrics.jsonl is written always",
    )
    precision: Precision = Field(
        default="auto", description="auto: bf16-mixed on a GPU that has it, else 32-true"
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def has_one_length(self) -> "Training":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps = {self.steps} and epochs = {self.epochs}; give exactly one of the two"
            )
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
