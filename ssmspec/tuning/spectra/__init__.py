"""Spectra of data: reading signals, estimating power spectra, suggestions based on them, and layers matched to them."""
