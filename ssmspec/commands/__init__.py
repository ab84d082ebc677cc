"""One module per verb, named like the verb: from files to a result, without printing. `analyze.py` is the one to read first."""
