"""Filters that several lists have alike."""

from typing import Annotated

from fastapi import Query

ModelFilter = Annotated[str | None, Query(min_length=1, description="Only of this model.")]
