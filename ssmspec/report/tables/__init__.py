"""Results as text for people, one module per verb; `fitting.py` and `text.py` are what they share."""
