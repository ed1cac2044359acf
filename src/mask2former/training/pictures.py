"""Pictures of what a model is trained on."""

from pathlib import Path

from PIL import Image

from mask2former.config import Run
from mask2former.files import replacing
from mask2former.inference.draw import draw_target
from mask2former.training.dispensable import Dispensable
from mask2former.training.loader import Splits, make_loader

NUM_PICTURES = 8


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
