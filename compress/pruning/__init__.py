"""Structured pruning: whole channels leave a network, which is then the same network, only narrower.

groups.py      which weights belong to one channel (families list theirs in `compress/trainable/`)
importance.py  how much a channel matters
channels.py    which channels stay, and the weights without the others
cost.py        parameters and multiplications of a network

A pruned network is worth little until `compress/recovery` has taught it what the original does.
"""
