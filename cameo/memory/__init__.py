"""How much memory a model may take, how much it takes, and what fits.

amounts       "4GiB" as bytes, bytes as words
free          what a device has free, and what this process holds of it
exhaustion    which errors mean that memory ran out
need          a network's memory as a + b * pixels * batch: planned by an engine's builder, or measured
calibration   the measured ones, in a file beside the bundle
measuring     how they are measured: in child processes, on this device
budget        what may be used, smoothed over ten seconds
room          how many rows and pixels that leaves for a network
fitting       the engines of a bundle that fit into a budget, and the sentence if none does
heap          one for all threads of a command
report        all of that in words, for `cameo info`
"""
