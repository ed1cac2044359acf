"""What is wrong with a configuration, in one line per mistake."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mask2former.suggestions import did_you_mean


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Every mistake with its dotted path, what came and what is accepted."""
    lines = [_explain_one(details, model) for details in error.errors(include_url=False)]
    if len(lines) == 1:
        return lines[0]
    return "\n  ".join([f"{len(lines)} mistakes in the configuration:", *lines])


def _explain_one(details: ErrorDetails, model: type[BaseModel]) -> str:
    owner, path = _locate(model, details["loc"])
    key = ".".join(path)
    match details["type"]:
        case "extra_forbidden":
            place = ".".join(path[:-1]) or "a configuration"
            hint = did_you_mean(path[-1], owner.model_fields)
            return f"{key}: not a key of {place}; {hint}"
        case "missing":
            return f"{key}: missing; give a value"
        case "literal_error" | "union_tag_invalid":
            accepted = list(_accepted_words(details))
            value = details["input"]
            if isinstance(value, dict):
                key, value = f"{key}.kind", value.get("kind")
            return f"{key} = {value}: {did_you_mean(str(value), accepted)}"
        case "union_tag_not_found":
            return f"{key}.kind: missing; give a value"
        case "value_error":
            return f"{key}: {details['msg'].removeprefix('Value error, ')}"
        case "model_type" | "model_attributes_type":
            keys = ", ".join(owner.model_fields)
            return f"{key} = {details['input']}: must be a mapping; its keys: {keys}"
    wanted = details["msg"].replace("Input should be", "must be")
    return f"{key} = {details['input']}: {wanted}"


def _locate(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[type[BaseModel], list[str]]:
    """The innermost model on the way to a field, and the way without names of union members."""
    owner, path = model, []
    members: dict[str, type[BaseModel]] = {}
    for step in location:
        if step in members:
            owner, members = members[str(step)], {}
            continue
        path.append(str(step))
        field = owner.model_fields.get(str(step))
        models = [] if field is None else list(_models_in(field.annotation))
        if len(models) == 1:
            owner = models[0]
        else:
            members = {str(m.model_fields["kind"].default): m for m in models}
    return owner, path


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _accepted_words(details: ErrorDetails) -> Iterator[str]:
    context = details.get("ctx", {})
    words = str(context.get("expected", context.get("expected_tags", "")))
    for word in words.replace(" or ", ", ").split(", "):
        yield word.strip("'\"")
