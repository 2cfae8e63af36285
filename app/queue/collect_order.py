"""The order in which ended tasks are collected: in turn over clients, each client's tasks by their end. Pure.

The order is a time, `tasks.next_poll_at`, so that the next task is one index probe. The method is start-time fair
queueing: a client's next turn comes STEP_S after its last one, and not before the turn that is served now. With
queries for 20 tasks a second, 1,500 ended tasks of one client take 75 s. The one task of another client that ends
meanwhile is then queried second, not after 75 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

# DashScope keeps results for 24 hours. A task that was submitted this long ago goes before all others.
URGENT_AFTER_S = 12 * 3600.0
# Distance of two turns of one client. It only orders tasks: 100,000 turns are 1 s, so no turn is in the future when
# the budget of queries comes to it.
STEP_S = 0.000_01


@dataclass(frozen=True, slots=True)
class EndedTasks:
    """Tasks of one client that have ended. Times are seconds from now, negative in the past."""

    ended: Sequence[UUID]  # seen now, in the order in which they are to be collected
    urgent: Sequence[UUID] = ()  # those of `ended` that were submitted more than URGENT_AFTER_S ago
    last_s: float | None = None  # the last turn of the client that is not collected yet
    next_s: float | None = None  # its first turn that waits


def collect_times(clients: Sequence[EndedTasks]) -> dict[UUID, float]:
    """The time of each task of `ended`, in seconds from now. Earlier times are collected first.

    A task with files of several clients takes the earliest of their turns. Urgent tasks come before all turns.
    """
    waiting = [each.next_s for each in clients if each.next_s is not None]
    # Half a step behind the task that is next, so that a stream of new clients cannot hold that task back.
    first_s = min(waiting) + STEP_S / 2 if waiting else 0.0
    urgent = sorted({task for each in clients for task in each.urgent})
    times = {task: number * STEP_S - 2 * URGENT_AFTER_S for number, task in enumerate(urgent)}
    for each in clients:
        at_s = first_s if each.last_s is None else max(first_s, each.last_s + STEP_S)
        for task in each.ended:
            if times.get(task, at_s) >= at_s:
                times[task] = at_s
            at_s += STEP_S
    return times
