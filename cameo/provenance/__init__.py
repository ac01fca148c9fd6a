"""What a result says about how it came about, and reading that back (docs/provenance.md).

record         what is true of one result
saving         results become files that say so
signing        ... and are signed by C2PA
reading        what a file says
"""
