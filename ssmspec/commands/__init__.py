"""One module per verb, named like the verb. Each goes from files to a result and prints nothing. Start reading with `analyze.py`."""
