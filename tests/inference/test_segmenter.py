"""The way from a picture to a prediction, with a network that says what it is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mask2former.inference import segmenter as segmenter_module
from mask2former.inference.segmenter import Segmenter, read_pixels
from mask2former.types import Classes, MaskPrediction

CLASSES = Classes(("ball", "grass"), (7, 3), (True, False))


class LeftAndRight(nn.Module):
    """Says that the left half of its input is a ball and the right half is grass."""

    def __init__(self, class_probs=((0.96, 0.02, 0.02), (0.05, 0.85, 0.1))) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([0.2, 0.4, 0.6])[:, None, None])
        self.class_probs = torch.tensor(class_probs)
        self.images = None

    def forward(self, images):
        self.images = images
        height, width = images.shape[-2] // 4, images.shape[-1] // 4
        features = torch.full((1, 1, height, width), 6.0, device=images.device)
        features[..., width // 2 :] = -6
        embeddings = torch.tensor([[[[1.0], [-1.0]]]])
        wrong_layer = torch.zeros(1, 1, 2, 3)
        class_logits = torch.cat([wrong_layer, self.class_probs.log()[None, None]])
        return MaskPrediction(class_logits, embeddings.repeat(2, 1, 1, 1), features)


def make(task="panoptic", model=None, **options):
    options = {"short_side": 64, "max_long_side": 128, "device": "cpu", **options}
    return Segmenter(model or LeftAndRight(), CLASSES, task=task, **options)


def picture(height=32, width=64):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_panoptic_model_does_all_three_tasks() -> None:
    segmenter = make()
    half = np.arange(64) < 32  # 64 x 128 needs no padding, so its halves are the image's
    panoptic = segmenter.predict(picture())
    assert panoptic.task == "panoptic"
    assert [(s.id, s.class_id) for s in panoptic.segments] == [(1, 0), (2, 1)]
    assert (panoptic.segment_map == np.where(half, 1, 2)).all()
    assert np.array_equal(panoptic.masks[0], np.broadcast_to(half, (32, 64)))
    semantic = segmenter.predict(picture(), task="semantic")
    assert (semantic.label_map == np.where(half, 0, 1)).all()
    instance = segmenter.predict(picture(), task="instance")
    # only things: query 0 and query 1, both as ball
    assert [s.class_id for s in instance.segments] == [0, 0]
    assert [instance.class_name(s) for s in instance.segments] == ["ball", "ball"]
    assert instance.segments[0].score == pytest.approx(0.96, abs=0.01)
    assert np.array_equal(instance.masks[0], np.broadcast_to(half, (32, 64)))


def test_an_instance_model_keeps_every_class() -> None:
    prediction = make("instance").predict(picture())
    assert {s.class_id for s in prediction.segments} == {0, 1}
    assert len(prediction.rles) == len(prediction.segments) == 4  # 2 queries x 2 classes


def test_several_tasks_need_the_network_once(monkeypatch) -> None:
    segmenter = make()
    passes = []
    forward = segmenter.forward
    monkeypatch.setattr(segmenter, "forward", lambda pixels: passes.append(1) or forward(pixels))
    predictions = segmenter.predict_tasks(picture(), segmenter.tasks)
    assert list(predictions) == ["panoptic", "instance", "semantic"]
    assert len(passes) == 1


def test_the_network_gets_the_image_resized_and_padded_with_the_pixel_mean() -> None:
    model = LeftAndRight()
    white = np.full((30, 45, 3), 255, np.uint8)
    make(model=model).forward(white)
    # short side 30 -> 64, long side 45 -> 96; a multiple of 32 already
    assert model.images.shape == (1, 3, 64, 96)
    assert (model.images == 1).all()
    output = make(model=model).forward(np.full((40, 60, 3), 255, np.uint8)[:33])
    # 33 x 60 -> 64 x 116, padded to 128
    assert output.frame.padded == (64, 128)
    assert output.frame.resized == (64, 116)
    assert output.frame.original == (33, 60)
    padding = model.images[0, :, :, 116:]
    assert torch.equal(padding, torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand_as(padding))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 2), (1200, 5000)])
def test_images_of_any_size_come_back_at_their_size(size) -> None:
    segmenter = make()
    predictions = segmenter.predict_tasks(np.zeros((*size, 3), np.uint8), segmenter.tasks)
    assert predictions["semantic"].label_map.shape == size
    assert predictions["panoptic"].segment_map.shape == size
    assert predictions["instance"].rles[0]["size"] == list(size)


def test_files_and_pillow_images_are_turned_upright(tmp_path: Path) -> None:
    stored = Image.fromarray(picture(5, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    stored.save(tmp_path / "turned.png", exif=exif)
    upright = np.asarray(stored.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(read_pixels(tmp_path / "turned.png"), upright)
    assert np.array_equal(read_pixels(str(tmp_path / "turned.png")), upright)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(read_pixels(opened), upright)
    grey = Image.fromarray(picture(5, 9)[..., 0])
    assert np.array_equal(read_pixels(grey)[..., 2], np.asarray(grey))


def test_other_arrays_and_missing_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 6\) and type uint8 .* \(height, width, 3\)"):
        read_pixels(np.zeros((4, 6), np.uint8))
    with pytest.raises(ValueError, match="type float64"):
        read_pixels(np.zeros((4, 6, 3)))
    with pytest.raises(ValueError, match=r"mode I;16 .* give its path"):
        read_pixels(Image.fromarray(np.zeros((4, 6), np.uint16)))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_pixels("nowhere.png")


def test_the_threshold_keeps_instances_and_picks_segments() -> None:
    segmenter = make("instance")
    scores = [s.score for s in segmenter.predict(picture()).segments]
    assert min(scores) < 0.5 < max(scores)
    kept = segmenter.predict(picture(), score_threshold=0.5)
    assert [s.score for s in kept.segments] == [score for score in scores if score >= 0.5]
    assert len(kept.rles) == len(kept.segments)
    panoptic = make().predict(picture(), score_threshold=0.9)  # grass has 0.85
    assert [s.class_id for s in panoptic.segments] == [0]


def test_thresholds_and_limits_of_the_run_are_used() -> None:
    assert len(make("instance", max_instances=3).predict(picture()).segments) == 3
    picky = make(panoptic_score_threshold=0.9).predict(picture())
    assert [s.class_id for s in picky.segments] == [0]


@pytest.mark.parametrize(
    ("trained", "asked"),
    [("semantic", "panoptic"), ("instance", "semantic"), ("instance", "panoptic")],
)
def test_a_task_that_the_model_cannot_do_is_refused(trained, asked) -> None:
    message = f"task '{asked}' is not possible .* trained for {trained} .* and does {trained}"
    with pytest.raises(ValueError, match=message):
        make(trained).check_tasks([asked])


def test_a_threshold_for_a_semantic_result_is_refused() -> None:
    with pytest.raises(ValueError, match="every pixel of a semantic result gets a class"):
        make().predict(picture(), task="semantic", score_threshold=0.5)


def test_a_semantic_model_resizes_its_scores_and_a_panoptic_one_its_masks(monkeypatch) -> None:
    seen = []
    semantic = segmenter_module.semantic
    monkeypatch.setattr(
        segmenter_module,
        "semantic",
        lambda *args, resized: seen.append(resized) or semantic(*args, resized=resized),
    )
    make("semantic").predict(picture())
    make("panoptic").predict(picture(), task="semantic")
    assert seen == ["scores", "masks"]


def test_attributes_of_another_task_are_named() -> None:
    semantic = make("semantic").predict(picture())
    with pytest.raises(ValueError, match=r"a semantic prediction has no such .* label_map"):
        _ = semantic.segments
    with pytest.raises(ValueError, match="a semantic prediction has no such"):
        _ = semantic.masks
    panoptic = make().predict(picture())
    with pytest.raises(ValueError, match=r"panoptic prediction .* segments, segment_map and masks"):
        _ = panoptic.rles


def test_drawing_follows_the_threshold() -> None:
    sure = LeftAndRight(((0.96, 0.02, 0.02), (0.02, 0.3, 0.68)))
    by_default = make("instance", sure).predict(picture()).draw()
    everything = make("instance", sure).predict(picture(), score_threshold=0.0).draw()
    pixels = np.asarray(by_default)
    factor = pixels.shape[0] // 32
    untouched = picture().repeat(factor, 0).repeat(factor, 1)
    right = slice(pixels.shape[1] * 3 // 4, None)
    assert np.array_equal(pixels[:, right], untouched[:, right])
    assert not np.array_equal(np.asarray(everything)[:, right], untouched[:, right])


def test_the_model_is_set_to_evaluation_and_its_mode_stays() -> None:
    model = LeftAndRight().train()
    make(model=model)
    assert not model.training
