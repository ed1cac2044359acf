"""What all parts of a configuration have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """Unknown keys and later changes are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
