"""What the parts of the file's schema have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from afmiddleware.config.texts import Text


class Model(BaseModel):
    """The base of everything in the file: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


Line = Annotated[int, Field(exclude=True)]
"""The line in the file, from 1; the loader fills it in."""

Price = Annotated[Text, Field(examples=["500 USD"])]
"""Money in major units with its currency."""
