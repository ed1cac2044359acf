import pytest
import torch

from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.model.transformer_decoder import attention_mask, reopen_empty_rows


def tiny_model() -> Mask2Former:
    torch.manual_seed(0)
    return Mask2Former(
        make_backbone("resnet18"),
        num_classes=5,
        num_queries=7,
        hidden_dim=64,
        num_heads=4,
        encoder_layers=1,
        encoder_feedforward_dim=16,
        decoder_layers=4,
        decoder_feedforward_dim=16,
    )


# Specification 2.10: (backbone, norm, classes, queries) and the number of parameters.
PUBLISHED_SIZES = [
    ("resnet50", "frozen", 80, 100, 43_970_257, 23_454_912),
    ("resnet50", "sync", 19, 100, 44_007_700, 23_508_032),
    ("resnet101", "frozen", 133, 100, 62_923_782, 42_394_816),
    ("resnet101", "sync", 150, 100, 63_033_495, 42_500_160),
    ("swin_tiny", "frozen", 150, 100, 47_439_633, 27_520_698),
    ("swin_small", "frozen", 19, 100, 68_723_870, 48_838_602),
    ("swin_base", "frozen", 133, 100, 106_917_822, 86_880_376),
    ("swin_large", "frozen", 65, 200, 215_518_134, 195_201_204),
]


@pytest.mark.parametrize(
    ("name", "norm", "classes", "queries", "total", "backbone"), PUBLISHED_SIZES
)
def test_models_have_the_published_number_of_parameters(
    name, norm, classes, queries, total, backbone
) -> None:
    with torch.device("meta"):
        model = Mask2Former(make_backbone(name, norm=norm), classes, num_queries=queries)
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for p in model.backbone.parameters()) == backbone


def test_prediction_has_every_layer_in_both_modes() -> None:
    model = tiny_model()
    images = torch.rand(2, 3, 64, 96)
    for training in (True, False):
        prediction = model.train(training)(images)
        assert prediction.class_logits.shape == (5, 2, 7, 6)
        assert prediction.mask_embeddings.shape == (5, 2, 7, 64)
        assert prediction.mask_features.shape == (2, 64, 16, 24)
        assert prediction.mask_logits(layer=2).shape == (2, 7, 16, 24)


def test_an_image_does_not_depend_on_its_batch() -> None:
    model = tiny_model().eval().double()
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        alone, together = model(images[:1]), model(images)
    torch.testing.assert_close(alone.mask_logits()[0], together.mask_logits()[0])
    torch.testing.assert_close(alone.class_logits[:, 0], together.class_logits[:, 0])


def test_every_parameter_learns() -> None:
    model = tiny_model().train()
    # Where offsets and weights start as zeros, positions have no effect yet.
    for layer in model.pixel_decoder.layers:
        torch.nn.init.normal_(layer.attention.offsets.weight, std=0.01)
        torch.nn.init.normal_(layer.attention.weights.weight, std=0.01)
    prediction = model(torch.rand(1, 3, 64, 32))
    loss = prediction.class_logits.square().mean() + prediction.mask_logits().square().mean()
    loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_sizes_that_the_strides_do_not_divide_are_refused() -> None:
    message = r"image size \(h, w\) = \(65, 96\) is not a multiple of stride 32; .* \(96, 96\)"
    with pytest.raises(ValueError, match=message):
        tiny_model()(torch.rand(1, 3, 65, 96))


def test_hidden_dim_must_suit_norms_and_heads() -> None:
    with pytest.raises(ValueError, match="hidden_dim = 48 with 8 heads"):
        Mask2Former(make_backbone("resnet18"), 2, hidden_dim=48)


def test_attention_is_blocked_where_the_mask_is_not() -> None:
    # One query, one channel: the logits are the features themselves.
    features = torch.tensor([[[2.0, -2.0, 0.0, -1e-9]]])
    blocked = attention_mask(torch.ones(1, 1, 1), features)
    # -1e-9 has a sigmoid of exactly 0.5 in float32, which is not below 0.5.
    assert blocked.tolist() == [[[[False, True, False, False]]]]


def test_an_empty_mask_may_look_everywhere() -> None:
    blocked = torch.tensor([[[True, True], [True, False]]])
    assert reopen_empty_rows(blocked).tolist() == [[[False, False], [True, False]]]


def test_mask_features_get_no_gradient_through_attention_masks() -> None:
    model = tiny_model().train()
    prediction = model(torch.rand(1, 3, 32, 64))
    prediction.class_logits.sum().backward()
    assert model.pixel_decoder.mask_projection.weight.grad is None


@pytest.mark.compile
def test_the_compiled_model_equals_the_eager_one_without_graph_breaks() -> None:
    model = tiny_model().eval()
    images = torch.rand(1, 3, 64, 96)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for expected, output in zip(model(images), compiled(images), strict=True):
            torch.testing.assert_close(output, expected)


@pytest.mark.compile
def test_the_exported_model_serves_other_sizes() -> None:
    model = tiny_model().eval()
    height, width = (torch.export.Dim(n, min=2, max=20) for n in ("height", "width"))
    exported = torch.export.export(
        model,
        (torch.rand(1, 3, 64, 96),),
        dynamic_shapes=({2: 32 * height, 3: 32 * width},),
    ).module()
    for size in ((64, 96), (96, 64), (160, 128)):
        images = torch.rand(1, 3, *size)
        with torch.no_grad():
            for expected, output in zip(model(images), exported(images), strict=True):
                torch.testing.assert_close(output, expected)
