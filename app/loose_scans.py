"""Lists of the newest rows that a filter selects, which read one page of each group instead of all rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, literal_column, select, true, tuple_


def newest_of_groups(
    row_id: Any,
    groups: Sequence[Any],
    scope: Sequence[ColumnElement[bool]],
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
) -> Select[Any]:
    """The newest `limit` ids of the rows in `scope` that meet `conditions`, newest first. Pure.

    `groups` are columns with few values; an index has the columns of `scope`, the groups and `row_id DESC`. Each group
    that exists takes one probe, and each that meets the conditions at most `limit` rows. Without this, a list of rare
    rows reads all rows of the client: 157 ms among 300,000 jobs.
    """
    one: ColumnElement[int] = literal_column("1")
    page: ColumnElement[int] = literal_column(f"{limit:d}")
    first = select(*groups).where(*scope).order_by(*groups).limit(one).cte("present", recursive=True)
    later = tuple_(*groups) > tuple_(*first.c)
    following = select(*groups).where(*scope, later).order_by(*groups).limit(one).lateral("following")
    present = first.union_all(select(*following.c).select_from(first.join(following, true())))
    # A condition on a group contradicts `==` for all others, which PostgreSQL notices before it reads the index.
    same_group = [group == present.c[group.key] for group in groups]
    newest = (
        select(row_id).where(*scope, *same_group, *conditions).order_by(row_id.desc()).limit(page).lateral("newest")
    )
    found = newest.c[row_id.key]
    return select(found).select_from(present.join(newest, true())).order_by(found.desc()).limit(page)
