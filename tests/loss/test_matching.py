import pytest
import torch
import torch.nn.functional as F

from mask2former.loss.matching import (
    CostWeights,
    image_costs,
    match,
    pairwise_dice_cost,
    pairwise_mask_cost,
)
from mask2former.masks.packed import pack_masks
from mask2former.types import MaskPrediction, Target


def make_target(masks: torch.Tensor, labels: list[int]) -> Target:
    return Target(torch.tensor(labels, dtype=torch.long), pack_masks(masks.numpy()))


def random_prediction(layers: int, b: int, q: int, classes: int, seed: int) -> MaskPrediction:
    g = torch.Generator().manual_seed(seed)
    return MaskPrediction(
        torch.randn(layers, b, q, classes + 1, generator=g),
        torch.randn(layers, b, q, 4, generator=g),
        torch.randn(b, 4, 6, 8, generator=g),
    )


def test_mask_cost_is_the_mean_cross_entropy_of_every_pair() -> None:
    g = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(3, 11, generator=g) * 4, torch.rand(2, 11, generator=g)
    expected = torch.stack(
        [
            torch.stack([F.binary_cross_entropy_with_logits(query, target) for target in targets])
            for query in logits
        ]
    )
    torch.testing.assert_close(pairwise_mask_cost(logits, targets), expected)


def test_dice_cost_counts_the_shared_pixel() -> None:
    # The prediction fills the left column of 2 x 2 pixels, the targets the top row and nothing.
    logits = torch.tensor([[50.0, -50.0, 50.0, -50.0]])
    targets = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    # 1 - (2 * 1 + 1) / (2 + 2 + 1) and 1 - (0 + 1) / (2 + 0 + 1)
    expected = torch.tensor([[0.4, 2 / 3]])
    torch.testing.assert_close(pairwise_dice_cost(logits, targets), expected)


def test_cost_is_the_weighted_sum_of_its_parts_on_sampled_masks() -> None:
    prediction = random_prediction(layers=2, b=1, q=3, classes=5, seed=1)
    masks = torch.rand(4, 24, 32) > 0.5
    target = make_target(masks, [4, 0, 2, 2])
    points = torch.rand(50, 2)
    weights = CostWeights(classification=3.0, mask=5.0, dice=7.0)
    costs = image_costs(
        prediction.class_logits[:, 0],
        prediction.mask_embeddings[:, 0],
        prediction.mask_features[0],
        target,
        points,
        (24, 32),
        weights,
    )
    grid = (2 * points - 1)[None, None]
    for layer in range(2):
        maps = prediction.mask_logits(layer)
        logits = F.grid_sample(maps, grid, align_corners=False)[0, :, 0]
        samples = F.grid_sample(masks[None].float(), grid, align_corners=False)[0, :, 0]
        classes = -prediction.class_logits[layer, 0].softmax(-1)[:, target.labels]
        expected = (
            5 * pairwise_mask_cost(logits, samples)
            + 3 * classes
            + 7 * pairwise_dice_cost(logits, samples)
        )
        torch.testing.assert_close(costs[layer], expected)


def test_every_target_finds_its_query_in_every_layer() -> None:
    # Two layers that name the targets in opposite order; masks say nothing.
    classes = torch.full((2, 1, 3, 4), -9.0)
    for layer, labels in enumerate(([0, 1, 2], [2, 1, 0])):
        for query, label in enumerate(labels):
            classes[layer, 0, query, label] = 9.0
    prediction = MaskPrediction(classes, torch.zeros(2, 1, 3, 1), torch.zeros(1, 1, 8, 8))
    target = make_target(torch.ones(3, 32, 32, dtype=torch.bool), [0, 1, 2])
    (matched,) = match(
        prediction, [target], (32, 32), weights=CostWeights(), num_points=5, draws=[torch.rand]
    )
    assert matched.query_ids.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert matched.target_ids.tolist() == [[0, 1, 2], [2, 1, 0]]


@pytest.mark.parametrize(("num_targets", "pairs"), [(0, 0), (2, 2), (9, 3)])
def test_there_are_as_many_pairs_as_queries_and_targets_allow(num_targets, pairs) -> None:
    prediction = random_prediction(layers=2, b=1, q=3, classes=5, seed=2)
    target = make_target(torch.ones(num_targets, 24, 32, dtype=torch.bool), [1] * num_targets)
    (matched,) = match(
        prediction, [target], (24, 32), weights=CostWeights(), num_points=7, draws=[torch.rand]
    )
    assert matched.query_ids.shape == matched.target_ids.shape == (2, pairs)
    assert all(len(set(layer.tolist())) == pairs for layer in matched.target_ids)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_prediction_is_named(value: float) -> None:
    prediction = random_prediction(layers=3, b=2, q=3, classes=5, seed=3)
    prediction.mask_embeddings[1, 1, 2] = value
    targets = [make_target(torch.ones(1, 24, 32, dtype=torch.bool), [1])] * 2
    message = "image 1 of the batch is not finite in layer 1.*Lower the learning rate"
    with pytest.raises(FloatingPointError, match=message):
        match(
            prediction,
            targets,
            (24, 32),
            weights=CostWeights(),
            num_points=7,
            draws=[torch.rand] * 2,
        )
