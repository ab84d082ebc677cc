"""The banks of systems that `waves` and `denoise` train, by architecture."""
