"""Results as text, JSON, CSV and pictures. Only `plot.py` and `figures/` import matplotlib."""
