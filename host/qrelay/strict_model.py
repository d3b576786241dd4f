"""The base of every settings model: unknown keys are errors, values do not change."""

from pydantic import BaseModel, ConfigDict

__all__ = ["StrictModel"]


class StrictModel(BaseModel):
    """Frozen settings that refuse keys they do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
