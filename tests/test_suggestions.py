"""The sentence after a misspelt name."""

from mask2former.suggestions import did_you_mean


def test_a_close_name_is_suggested() -> None:
    assert did_you_mean("tyni", ["semantic", "tiny"]) == "did you mean tiny?"


def test_case_and_dashes_do_not_count() -> None:
    assert did_you_mean("Num_Queries", ["num-queries", "x"]) == "did you mean num-queries?"


def test_without_a_close_name_all_are_listed() -> None:
    assert did_you_mean("zzz", ["train", "val"]) == "accepted: train, val"
