import torch

from mask2former.weights.checkpoint import Checkpoint
from mask2former.weights.huggingface import NAMES, read, write
from mask2former.weights.names import to_ours, to_theirs

TABLE = (
    ("layers.{i}.norm.*", "blocks.{i+1}.ln.*"),
    ("layers.{i}.query.weight", "blocks.{i+1}.packed_weight[0]"),
    ("layers.{i}.key.weight", "blocks.{i+1}.packed_weight[1]"),
    ("layers.{i}.value.weight", "blocks.{i+1}.packed_weight[2]"),
    ("layers.{i}.qkv.*[0]", "blocks.{i+1}.q.*"),
    ("layers.{i}.qkv.*[1]", "blocks.{i+1}.k.*"),
    ("layers.{i}.qkv.*[2]", "blocks.{i+1}.v.*"),
)


def test_names_are_translated_both_ways() -> None:
    theirs = {
        "blocks.11.ln.bias": torch.tensor([1.0]),
        "blocks.1.packed_weight": torch.arange(12.0).view(6, 2),
        "blocks.2.v.weight": torch.full((1, 2), 3.0),
        "blocks.2.q.weight": torch.full((1, 2), 1.0),
        "blocks.2.k.weight": torch.full((1, 2), 2.0),
        "head.bias": torch.zeros(1),
    }
    ours, unknown = to_ours(theirs, TABLE)
    assert unknown == ["head.bias"]
    assert ours.keys() == {
        "layers.10.norm.bias",
        "layers.0.query.weight",
        "layers.0.key.weight",
        "layers.0.value.weight",
        "layers.1.qkv.weight",
    }
    assert ours["layers.0.key.weight"].tolist() == [[4, 5], [6, 7]]
    assert ours["layers.1.qkv.weight"].tolist() == [[1, 1], [2, 2], [3, 3]]
    again, unknown = to_theirs(ours, TABLE)
    assert unknown == []
    del theirs["head.bias"]
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in theirs.items())


def test_no_template_of_hugging_faces_table_is_written_twice() -> None:
    assert len({ours for ours, _ in NAMES}) == len({theirs for _, theirs in NAMES}) == len(NAMES)


def test_hugging_faces_counters_of_steps_do_not_touch_the_order(resnet50: Checkpoint) -> None:
    state = write(resnet50.weights, 0.1)
    floats = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert len(floats) < len(state)
    assert list(read(state, {}).weights) == list(read(floats, {}).weights)
