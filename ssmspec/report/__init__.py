"""Results as text, JSON, CSV and pictures. Only `plots` and `figures` import matplotlib."""
