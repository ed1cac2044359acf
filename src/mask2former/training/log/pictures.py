"""Pictures of what a model is trained on, and of what it makes of images that it is scored on."""

from pathlib import Path

from PIL import Image

from mask2former.config import Run
from mask2former.evaluation.scores import match_classes
from mask2former.evaluation.truth import ScoredImages
from mask2former.files import replacing
from mask2former.inference.draw import draw_annotations, draw_masks, draw_target
from mask2former.inference.prediction import Prediction
from mask2former.training.loader import Splits, make_loader
from mask2former.training.log.strips import extend_strip, read_strip
from mask2former.training.states.dispensable import Dispensable

NUM_PICTURES = 8
IMAGE, TRUTH = "image", "ground truth"
"""Labels of the first columns of a strip."""


def draw_training_samples(splits: Splits, run: Run, folder: Path) -> None:
    """Draw the first samples of the run with their masks, as the model will see them.

    Those that a full disk has no room for are left out, with a warning.
    """
    dispensable = Dispensable()
    here = run.model_copy(update={"data": run.data.model_copy(update={"workers": 0})})
    batches = iter(make_loader(splits, here, start=0))
    drawn = 0
    for batch in batches:
        for image, target in zip(batch.images, batch.targets, strict=True):
            pixels = image.permute(1, 2, 0).contiguous().numpy()
            pair = [Image.fromarray(pixels), draw_target(pixels, target, splits.classes)]
            with (
                dispensable.writing("pictures of training images"),
                replacing(folder / f"{drawn}.png") as unfinished,
            ):
                side_by_side(pair).save(unfinished, format="PNG")
            drawn += 1
            if drawn == NUM_PICTURES:
                return


def draw_validation(
    path: Path, prediction: Prediction, *, images: ScoredImages, index: int, step: int
) -> None:
    """Add a prediction to the strip of its image, which begins with the image and its truth.

    Args:
        path: Of the strip.
        prediction: Of the model after so many steps.
        images: That are scored.
        index: Of the image among them.
        step: Label of the prediction.
    """
    has_predictions = path.is_file() and any(
        isinstance(column.label, int) for column in read_strip(path)
    )
    if not has_predictions:
        by_model = match_classes(prediction.classes, images.main.classes)
        class_ids = {of_data: of_model for of_model, of_data in by_model.items()}
        annotations = images.main.annotations(index)
        truth = draw_annotations(prediction.image, annotations, prediction.classes, class_ids)
        # as large as what is drawn over it
        extend_strip(path, draw_masks(prediction.image, [], []), IMAGE)
        extend_strip(path, truth, TRUTH)
    extend_strip(path, prediction.draw(), step)


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures in a row, all as high as the highest."""
    height = max(picture.height for picture in pictures)
    pictures = [p.resize((p.width * height // p.height, height)) for p in pictures]
    row = Image.new("RGB", (sum(picture.width for picture in pictures), height))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width
    return row
