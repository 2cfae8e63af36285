"""A collection of garbage in the middle of a measurement would count as time of the code."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """A collection goes through the objects of all tests, at any moment."""
    gc.disable()
    yield
    gc.enable()
