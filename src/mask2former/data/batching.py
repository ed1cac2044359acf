"""Samples of different sizes as one batch."""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor

from mask2former.types import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Collect samples without copying or padding them."""
    return Batch(
        images=[sample.image for sample in samples],
        targets=[sample.target for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        seeds=[sample.seed for sample in samples],
    )


def split_batch(batch: Batch, images: int | None) -> list[Batch]:
    """The batch in parts of so many images, of which the last may have fewer; none: one part."""
    count = len(batch.images)
    step = count if images is None else images
    return [
        Batch(
            images=batch.images[start : start + step],
            targets=batch.targets[start : start + step],
            image_ids=batch.image_ids[start : start + step],
            seeds=batch.seeds[start : start + step],
        )
        for start in range(0, count, step)
    ]


def pad_images(
    images: Sequence[UInt8[Tensor, "3 _ _"]],
    pixel_mean: Float[Tensor, "3"],
    multiple: int,
) -> Float[Tensor, "b 3 height width"]:
    """Stack images at the top left of a canvas of exactly the pixel mean.

    What is subtracted to normalise is what stands in the padding, so that the normalised padding
    is 0.

    Args:
        images: RGB, all on one device; at least one.
        pixel_mean: RGB in [0, 1], as the model subtracts it.
        multiple: Height and width are the largest of the images, rounded up to a multiple of it.

    Returns:
        RGB in [0, 1], on the images' device.
    """
    if not images:
        raise ValueError("got no images; a batch has at least one")
    height, width = (
        -(-max(image.shape[axis] for image in images) // multiple) * multiple for axis in (1, 2)
    )
    mean = pixel_mean.to(images[0].device)
    batch = mean[:, None, None].repeat(len(images), 1, height, width)
    for canvas, image in zip(batch, images, strict=True):
        canvas[:, : image.shape[1], : image.shape[2]] = image.to(batch.dtype).div_(255)
    return batch
