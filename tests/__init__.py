"""Tests of the gateway. Their processes collect garbage less often than Python does by default.

A collection goes through all objects that are not frozen. With Python's threshold of 700 new objects the imports take a
tenth more CPU, and a worker of the tests makes 4,000 collections. The gateway's processes set thresholds of their own.
"""

import gc

# New objects before a collection of the young generation.
GC_THRESHOLD = 50_000
gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
