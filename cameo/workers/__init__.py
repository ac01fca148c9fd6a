"""Calls of many clients, run by workers that can be killed.

calls        what goes in and comes out: plain data
crew         the queue before the workers: deadlines, refusals, and calls of a dead worker, which run again
forecast     how long calls take, by what the last ones took
breaker      when to replace a worker that died, and when to wait
executor     the seam: what runs calls
in_process   ... in threads of this process
child_process ... in a process of its own
child        that process
wire         messages between the two
work         what it does: models under one budget of memory

A front (`cameo.server`) opens no engine; nothing here knows HTTP.
"""
