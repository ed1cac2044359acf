import pytest
import torch
from torch.testing import assert_close

from mask2former.data.batching import collate, pad_images, split_batch
from mask2former.types import Batch, Sample, Target

MEAN = torch.tensor([123.675, 116.28, 103.53]) / 255


def image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def test_batch_is_as_large_as_the_largest_rounded_up() -> None:
    batch = pad_images([image(30, 65), image(33, 40)], MEAN, multiple=32)
    # 33 -> 64 and 65 -> 96
    assert batch.shape == (2, 3, 64, 96)
    assert pad_images([image(32, 64)], MEAN, multiple=32).shape == (1, 3, 32, 64)


def test_images_stand_at_the_top_left_divided_by_255() -> None:
    images = [image(30, 65), image(33, 40)]
    batch = pad_images(images, MEAN, multiple=32)
    for canvas, source in zip(batch, images, strict=True):
        _, height, width = source.shape
        assert_close(canvas[:, :height, :width], source.float() / 255, rtol=0, atol=0)


def test_normalised_padding_is_exactly_zero() -> None:
    batch = pad_images([image(30, 65), image(33, 40)], MEAN, multiple=32)
    normalised = (batch - MEAN[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    assert (normalised[0, :, 30:] == 0).all()
    assert (normalised[0, :, :, 65:] == 0).all()
    assert (normalised[1, :, :, 40:] == 0).all()


def test_input_is_not_written_to() -> None:
    source = image(5, 6)
    before = source.clone()
    pad_images([source], MEAN, multiple=4)
    assert torch.equal(source, before)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="got no images; a batch has at least one"):
        pad_images([], MEAN, multiple=32)


def test_samples_are_collected_in_order() -> None:
    samples = [
        Sample(
            image(4, 5), Target(torch.tensor([2]), torch.ones(4, 5, 1, dtype=torch.uint8)), 7, 50
        ),
        Sample(image(6, 3), Target(torch.tensor([]).long(), torch.ones(6, 3, 0).byte()), "b", 51),
    ]
    batch = collate(samples)
    assert batch.images == [samples[0].image, samples[1].image]
    assert batch.targets == [samples[0].target, samples[1].target]
    assert batch.image_ids == [7, "b"]
    assert batch.seeds == [50, 51]


@pytest.mark.parametrize(
    ("images", "sizes"), [(None, [5]), (5, [5]), (2, [2, 2, 1]), (9, [5]), (1, [1] * 5)]
)
def test_a_batch_is_split_without_losing_or_mixing(images, sizes) -> None:
    target = Target(torch.tensor([]).long(), torch.ones(4, 1, 0).byte())
    whole = Batch([image(4, i + 1) for i in range(5)], [target] * 5, [*"abcde"], [*range(5)])
    parts = split_batch(whole, images)
    assert [len(part.images) for part in parts] == sizes
    assert [i for part in parts for i in part.image_ids] == whole.image_ids
    assert [s for part in parts for s in part.seeds] == whole.seeds
    assert [p.shape for part in parts for p in part.images] == [p.shape for p in whole.images]
