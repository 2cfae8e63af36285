"""DashScope's clock and time zone, for the comparison of its times with those of the gateway."""

from datetime import timedelta, timezone

# The zone of the times that DashScope writes without one.
BEIJING = timezone(timedelta(hours=8))
# The largest difference between our clocks and upstream's.
CLOCK_SKEW = timedelta(seconds=120)
