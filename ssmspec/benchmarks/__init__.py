"""How fast ssmspec is compared with other ways to compute the same numbers: benchmarks time pairs (ours, peer, ours, peer, ...).

`catalogue` lists the benchmarks, `contest` defines what a benchmark is, `pairs` does the timing. Importing this package loads nothing else.
"""
