"""Out of the house and back: nothing is lost."""

import json
from pathlib import Path

import pytest
import torch

from mask2former.types import Classes
from mask2former.weights.checkpoint import Checkpoint
from mask2former.weights.convert import convert
from mask2former.weights.huggingface import read as read_huggingface
from mask2former.weights.huggingface_config import image_processor_config, model_config
from mask2former.weights.inspection import Inspection, inspect
from mask2former.weights.open import read

PLACES = {"mask2former": "w.safetensors", "official": "w.pkl", "huggingface": "folder"}


@pytest.mark.parametrize("target", PLACES)
def test_round_trips_are_bit_identical(target, checkpoint: Checkpoint, tmp_path: Path) -> None:
    written = convert(checkpoint, tmp_path / PLACES[target], target)
    found = read(written)
    assert found.weights.keys() == checkpoint.weights.keys()
    assert all(torch.equal(found.weights[n], t) for n, t in checkpoint.weights.items())
    assert found.run == checkpoint.run
    assert found.classes == checkpoint.classes
    looked = inspect(written)
    assert isinstance(looked, Inspection)
    assert looked.loads
    assert looked.dialect == target


def test_without_our_metadata_the_classes_of_hugging_face_count(
    resnet18: Checkpoint, tmp_path: Path
) -> None:
    folder = convert(resnet18, tmp_path / "out", "huggingface")
    config = json.loads((folder / "config.json").read_text())
    del config["mask2former"]
    (folder / "config.json").write_text(json.dumps(config))
    found = read(folder)
    assert found.classes.names == resnet18.classes.names
    assert found.run.model == resnet18.run.model
    # names that nobody gave are no names
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    (folder / "config.json").write_text(json.dumps(config))
    assert read(folder).classes.names == ("0", "1", "2")
    config["pre_norm"] = True
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"out: its config.json says pre_norm = True; .* is False"):
        read(folder)


def test_what_the_target_cannot_hold_is_refused_before_anything_is_written(
    resnet18: Checkpoint, tmp_path: Path
) -> None:
    model = resnet18.run.model
    backbone = model.backbone.model_copy(update={"name": "mobilenetv3_small_050"})
    run = resnet18.run.model_copy(update={"model": model.model_copy(update={"backbone": backbone})})
    from mask2former.weights.build import build_model

    other = Checkpoint(dict(build_model(run.model, 3).state_dict()), run, resnet18.classes)
    with pytest.raises(ValueError, match="mobilenetv3_small_050 has no place in Hugging Face's"):
        convert(other, tmp_path / "out", "huggingface")
    with pytest.raises(ValueError, match="have no place in the authors' model"):
        convert(other, tmp_path / "out.pkl", "official")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_suffixes_are_checked(
    resnet18: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "w.pkl").touch()
    with pytest.raises(ValueError, match=r"w.pkl exists already; name another place"):
        convert(resnet18, tmp_path / "w.pkl", "official")
    with pytest.raises(ValueError, match=r"for official name a file that ends in \.pkl"):
        convert(resnet18, tmp_path / "w.pth", "official")
    with pytest.raises(ValueError, match="for huggingface name a folder"):
        convert(resnet18, tmp_path / "w.safetensors", "huggingface")


def test_an_incomplete_checkpoint_is_not_passed_on(resnet18: Checkpoint, tmp_path: Path) -> None:
    weights = dict(resnet18.weights)
    del weights["transformer_decoder.norm.bias"]
    with pytest.raises(ValueError, match="1 tensors are missing"):
        convert(resnet18._replace(weights=weights), tmp_path / "w.pkl", "official")


def test_configurations_say_what_the_network_is(resnet50: Checkpoint) -> None:
    classes = Classes(("a", "b", "a"), (1, 2, 3), (True, True, True))
    config = model_config(resnet50.run, classes)
    assert config["decoder_layers"] == 4  # three layers and the prediction before them
    assert config["id2label"] == {"0": "a (0)", "1": "b", "2": "a (2)"}
    assert config["label2id"] == {"a (0)": 0, "b": 1, "a (2)": 2}
    assert config["backbone_config"]["depths"] == [3, 4, 6, 3]
    processor = image_processor_config(resnet50.run, classes)
    assert processor["size"] == {"shortest_edge": 640, "longest_edge": 2560}
    assert processor["image_mean"] == [0.485, 0.456, 0.406]


def test_every_row_of_the_published_conversion_table_is_ours() -> None:
    # specification 6.5 and its table of 554 rows: official name, slice, hub name
    path = Path(__file__).parents[3] / "shared/spec/official_to_hf_swin_t.tsv"
    if not path.is_file():
        pytest.skip("the tables of the specification are not beside this clone")
    from mask2former.model.backbone import make_backbone
    from mask2former.model.mask2former import Mask2Former
    from mask2former.weights import huggingface, official

    model = Mask2Former(make_backbone("swin_tiny"), 80)
    theirs = official.write(model.state_dict(), 0.1)
    hub = huggingface.write(model.state_dict(), 0.1)
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]
    assert len(rows) == 554
    for name, part, hub_name in rows:
        expected = theirs[name]
        if part != "all":
            first, last = part_rows(part, len(expected))
            expected = expected[first:last]
        assert torch.equal(hub[hub_name], expected), hub_name
    unused = {n for n in hub if ".swin.layernorm." in n}
    assert hub.keys() - unused == {hub_name for _, _, hub_name in rows}
    assert read_huggingface(hub, {}).left_over == []


def part_rows(text: str, length: int) -> tuple[int, int]:
    """`0:96`, `rows 0:96` or the like."""
    numbers = [int(number) for number in "".join(c if c.isdigit() else " " for c in text).split()]
    assert len(numbers) == 2, text
    assert numbers[1] <= length
    return numbers[0], numbers[1]
