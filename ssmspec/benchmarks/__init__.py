"""How fast ssmspec is beside other ways to the same numbers: every benchmark times pairs (ours, peer, ours, peer, ...) in one process.

`catalogue` lists the benchmarks, `contest` says what one is, `pairs` does the timing. Importing this package loads nothing else.
"""
