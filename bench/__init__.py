"""Benchmarks: ratios to a baseline in the same run, on the machine at hand.

    make bench                 all of them
    python -m bench fanout     one

Nothing here asserts a time; tests do not measure.
"""
