"""A trained model with all that turns a picture into a result."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor, nn

from mask2former.data.batching import pad_images
from mask2former.data.geometry import shortest_edge_size
from mask2former.data.images import read_image
from mask2former.data.transforms import resize_for_test
from mask2former.fractions import Fractions
from mask2former.inference.device import find_device
from mask2former.inference.passes import ImagePasses, Pass
from mask2former.inference.postprocess import instances, panoptic, semantic
from mask2former.inference.prediction import Prediction
from mask2former.inference.resize import Frame, Size
from mask2former.inference.views import (
    COMMON_SIZE,
    View,
    ViewSizes,
    describe,
    show,
)
from mask2former.model.mask2former import SIZE_DIVISOR
from mask2former.tasks import Task
from mask2former.types import Classes, InstanceResult, Result
from mask2former.weights.open import load

ImageSource: TypeAlias = str | Path | Image.Image | np.ndarray

TASKS_OF: dict[Task, tuple[Task, ...]] = {
    "semantic": ("semantic",),
    "instance": ("instance",),
    "panoptic": ("panoptic", "instance", "semantic"),
}
"""What a model that was trained for a task can do; the first when nothing is asked for."""


class TrainedOn(NamedTuple):
    """The data of the run, and how they were read, so that its held-out images are found again."""

    folders: tuple[Path, ...] = ()
    format: str | None = None
    """None: it was found by looking."""
    split_fractions: Fractions | None = None
    """By which data without splits were divided; none: `partition.AUTOMATIC`."""
    train_split: str = "train"
    """"all" held nothing out."""
    ignore_index: int = 255
    """Value of PNG masks that was no class."""


class Segmenter:
    """Segments images: `Segmenter.load("runs/nuts").predict("photo.jpg")`."""

    def __init__(
        self,
        model: nn.Module,
        classes: Classes,
        *,
        task: Task,
        short_side: int = 800,
        max_long_side: int = 1333,
        panoptic_score_threshold: float = 0.8,
        panoptic_overlap_threshold: float = 0.8,
        max_instances: int = 100,
        tta: ViewSizes | None = None,
        trained_on: TrainedOn = TrainedOn(),  # noqa: B008 immutable
        device: str | torch.device = "auto",
    ) -> None:
        """Make a segmenter of a model, which is set to evaluation and moved to the device.

        Args:
            model: As `model.mask2former.Mask2Former`.
            classes: In the order of the model's class logits.
            task: What the model was trained for.
            short_side: Images are resized so that their short side has this many pixels,
            max_long_side: unless their long side would have more than this many.
            panoptic_score_threshold: Class probability that a segment must exceed.
            panoptic_overlap_threshold: Share of its mask that a segment must win.
            max_instances: Objects per image.
            tta: The sizes over which predictions are averaged; none: images are seen once.
            trained_on: Nothing in particular, for a model of unknown origin.
            device: "auto", or as PyTorch names it.
        """
        self.device = find_device(str(device))
        self.model = model.to(self.device).eval()
        self.classes = classes
        self.task: Task = task
        self.short_side, self.max_long_side = short_side, max_long_side
        self.panoptic_score_threshold = panoptic_score_threshold
        self.panoptic_overlap_threshold = panoptic_overlap_threshold
        self.max_instances = max_instances
        self.tta = tta
        self.trained_on = trained_on

    @classmethod
    def load(
        cls,
        weights: str | Path,
        device: str = "auto",
        preset: str | None = None,
        tta: bool = False,
    ) -> "Segmenter":
        """Open what was trained, here or elsewhere.

        Args:
            weights: A run's folder or a file of ours, the authors' `.pkl` or `.pth`, Hugging
                Face's folder or `.safetensors`, OpenMMLab's `.pth`; or a hub id, an address, or
                the name of a published preset, which are downloaded once.
            device: "auto", or as PyTorch names it.
            preset: What a foreign checkpoint was published as, where neither it nor its name
                says: its classes, task, image size and thresholds.
            tta: Test-time augmentation: average over several sizes of each image, and over its
                mirror image. The sizes are the model's own (`Data.tta_sizes`).

        Raises:
            FileNotFoundError: There is nothing of that name.
            ValueError: It is no Mask2Former, or damaged, or does not fit the preset.
        """
        loaded = load(weights, find_device(device), preset)
        run = loaded.run
        return cls(
            loaded.model,
            loaded.classes,
            task=run.task,
            **run.data.test_size.model_dump(),
            **run.inference.model_dump(),
            tta=ViewSizes(**run.data.tta_sizes.model_dump()) if tta else None,
            trained_on=TrainedOn(
                run.data.paths,
                run.data.format,
                run.data.split_fractions,
                run.data.train_split,
                run.data.ignore_index,
            ),
            device=device,
        )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the model can do, its own task first."""
        return TASKS_OF[self.task]

    def predict(
        self, image: ImageSource, task: Task | None = None, score_threshold: float | None = None
    ) -> Prediction:
        """Segment one image of any size.

        Args:
            image: A path, a Pillow image, or a uint8 array (h, w, 3) in RGB. The orientation tags
                of files and Pillow images are applied.
            task: One of `tasks`; none: what the model was trained for. A model trained for
                panoptic segmentation does all three.
            score_threshold: Instance: the least score of an object that is kept (none: all of the
                best `max_instances`). Panoptic: the class probability that a segment must exceed,
                instead of `panoptic_score_threshold`. Semantic has no scores.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The image cannot be read, or the model cannot do the task.
        """
        task = task or self.task
        return self.predict_tasks(image, [task], score_threshold)[task]

    def predict_tasks(
        self, image: ImageSource, tasks: Iterable[Task], score_threshold: float | None = None
    ) -> dict[Task, Prediction]:
        """Segment one image for several tasks at the price of one; see `predict`.

        A threshold is for those of the tasks that have scores.
        """
        tasks = list(tasks)
        self.check_tasks(tasks, score_threshold)
        pixels = read_pixels(image)
        output = self.forward(pixels)
        return {
            task: Prediction(
                pixels,
                self.classes,
                task,
                self.convert(output, task, score_threshold),
                score_threshold,
            )
            for task in tasks
        }

    def check_tasks(self, tasks: Iterable[Task], score_threshold: float | None = None) -> None:
        """Refuse tasks that the model cannot do, before anything is computed."""
        tasks = list(tasks)
        for task in tasks:
            if task not in self.tasks:
                raise ValueError(
                    f"task {task!r} is not possible with this model, which was trained for "
                    f"{self.task} segmentation and does {' and '.join(self.tasks)}"
                    f"{'' if self.task == 'panoptic' else '; a panoptic model does all three'}"
                )
        if score_threshold is not None and tasks == ["semantic"]:
            raise ValueError(
                "a score threshold was given, but every pixel of a semantic result gets a class "
                "whatever its score; leave the threshold out"
            )

    def describe_passes(self) -> str:
        """What an image costs, in one line; the pixels are those of a 3:4 photo."""
        if self.tta is None:
            return "1 pass an image, without test-time augmentation"
        usual = shortest_edge_size(COMMON_SIZE, self.short_side, self.max_long_side)
        return describe(self._views(usual), usual)

    @torch.inference_mode()
    def forward(self, pixels: UInt8[np.ndarray, "h w 3"]) -> ImagePasses:
        """What the network says of one RGB image, on the segmenter's device.

        One pass, or with test-time augmentation one for each view. For segments the first one has
        the usual size, which the published rule for semantic scores does not ask for.
        """
        usual = resize_for_test(pixels, self.short_side, self.max_long_side)
        original = (pixels.shape[0], pixels.shape[1])
        views = self._views((usual.shape[1], usual.shape[2]))
        return ImagePasses(tuple(self._look(show(usual, view), view, original) for view in views))

    def _views(self, usual: Size) -> list[View]:
        if self.tta is None:
            return [View(usual, flipped=False)]
        return self.tta.views(usual, usual_first=self.task != "semantic")

    def _look(self, image: UInt8[Tensor, "3 h w"], view: View, original: Size) -> Pass:
        image = image.to(self.device)
        images = pad_images([image], self.model.get_buffer("pixel_mean").flatten(), SIZE_DIVISOR)
        prediction = self.model(images)
        frame = Frame((images.shape[2], images.shape[3]), view.size, original)
        class_logits, mask_logits = prediction.class_logits[-1, 0], prediction.mask_logits()[0]
        return Pass(class_logits, mask_logits, frame, view.flipped)

    @torch.inference_mode()
    def convert(
        self, output: ImagePasses, task: Task, score_threshold: float | None = None
    ) -> Result:
        """The result for one of `tasks`, by the rules of the published system.

        Of several passes, semantic results average the scores of all classes at every pixel, also
        those of a panoptic model; panoptic and instance results are made of the queries on which
        the passes agree.
        """
        if task == "semantic":
            resized = "masks" if self.task == "panoptic" else "scores"
            return semantic(output.passes, resized=resized)
        class_logits, mask_logits, frame, _ = output.agreed
        if task == "panoptic":
            lowest = self.panoptic_score_threshold if score_threshold is None else score_threshold
            return panoptic(
                class_logits,
                mask_logits,
                frame,
                is_thing=self.classes.is_thing,
                score_threshold=lowest,
                overlap_threshold=self.panoptic_overlap_threshold,
            )
        is_thing = self.classes.is_thing if self.task == "panoptic" else None
        result = instances(
            class_logits,
            mask_logits,
            frame,
            max_instances=self.max_instances,
            is_thing=is_thing,
        )
        return result if score_threshold is None else at_least(result, score_threshold)


def at_least(result: InstanceResult, score: float) -> InstanceResult:
    """The objects of that score or a higher one."""
    count = sum(segment.score >= score for segment in result.segments)
    return InstanceResult(result.height, result.width, result.rles[:count], result.segments[:count])


def read_pixels(image: ImageSource) -> UInt8[np.ndarray, "h w 3"]:
    """An image as upright RGB pixels."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise ValueError(
                f"a Pillow image of mode {image.mode} was given, whose white is unknown; give its "
                "path, or convert it to 8 bits"
            )
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"an array of shape {image.shape} and type {image.dtype} was given; an image is "
            "(height, width, 3), RGB, uint8"
        )
    return image
