from uuid import UUID

from app.transcripts.slices import Slices

A, B = UUID(int=1), UUID(int=2)


def test_what_was_used_least_lately_goes_first() -> None:
    slices = Slices(30)
    for at in (0, 10, 20):
        slices.keep((A, "raw", at), b"x" * 10)
    assert slices.get((A, "raw", 0))
    slices.keep((B, "raw", 0), b"y" * 10)
    slices.keep((B, "raw", 0), b"y" * 10)
    assert slices.get((A, "raw", 10)) is None
    assert [slices.get((A, "raw", at)) for at in (0, 20)] == [b"x" * 10] * 2
    assert slices.get((B, "raw", 0)) == b"y" * 10
    assert slices.get((B, "document", 0)) is None


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    slices = Slices(30)
    slices.keep((A, "raw", 0), b"x" * 31)
    assert slices.get((A, "raw", 0)) is None


def test_what_is_deleted_makes_room() -> None:
    slices = Slices(30)
    slices.keep((A, "raw", 0), b"x" * 20)
    slices.keep((B, "raw", 0), b"x" * 10)
    slices.forget_transcript(A)
    slices.keep((B, "raw", 10), b"x" * 20)
    assert slices.get((A, "raw", 0)) is None
    assert slices.get((B, "raw", 0))
