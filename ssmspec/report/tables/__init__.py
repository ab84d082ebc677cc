"""Results as text for people, one module per verb. `parts.py` and `fitting.py` hold what they share."""
