"""Results as text, JSON, CSV and pictures. Only `plots` imports matplotlib."""
