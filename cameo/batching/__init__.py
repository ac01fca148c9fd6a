"""Rows of all callers, gathered into batches that fit and pay.

cost       what batches of a network cost, learned from its last fifty: a * n + b
visit      one caller, and its place in the line
device     callers that own a device in turn, and the rows that wait for it
batched    a network whose rows wait there: a session like any other
"""

from cameo.batching.batched import Batched
from cameo.batching.device import Device

__all__ = ["Batched", "Device"]
