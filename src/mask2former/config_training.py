"""The parts of a configuration that say how weights are changed, for how long, and by what."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from mask2former.byte_sizes import parse_size
from mask2former.config_part import Fraction, Part, Positive

Precision: TypeAlias = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
LoggerName: TypeAlias = Literal["tensorboard", "csv", "wandb", "mlflow"]


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
