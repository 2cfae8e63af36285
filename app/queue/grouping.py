"""How many files go out together. Pure.

Upstream limits submits a second, not files: under backlog, files share tasks. But a task is as slow as its slowest
file, so tasks are only as large as it takes to send what waits within `DRAIN_S` of its arrival.
"""

import math

DRAIN_S = 0.3


def group_size(*, waiting: int, oldest_age_s: float, submits_per_s: float, groups: int, most: int) -> int:
    """Files for the next task of a group_key in which `waiting` files wait, the oldest since `oldest_age_s`.

    `submits_per_s` is the rate of all accounts together, shared with the other `groups` of the model; `most` is the
    limit of the model. One waiting file is always a group of one.
    """
    remaining_s = max(DRAIN_S - oldest_age_s, 0.0)
    slots = max(submits_per_s * remaining_s / max(groups, 1), 1.0)
    return max(1, min(most, waiting, math.ceil(waiting / slots)))
