"""Jobs of a server: many photos sent at once, run when nobody else is kept waiting, and kept in a folder meanwhile.

job        what is asked for, and how much of it
archive    photos that come in a zip, and results that go out in one
store      what was asked for and what is done, in SQLite; photos and results are files beside it
runner     runs what is missing, few photos at a time

A job is there once it is accepted: what is killed, at whatever moment, goes on with the photos that have no result.
Nothing here knows HTTP; `cameo/server/jobs.py` has the addresses.
"""
