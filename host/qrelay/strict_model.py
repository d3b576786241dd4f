"""The base of every settings model: unknown keys and numbers that are not finite are errors, values do not change."""

from pydantic import BaseModel, ConfigDict

__all__ = ["StrictModel"]


class StrictModel(BaseModel):
    """Frozen settings that refuse keys they do not know, infinity and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
