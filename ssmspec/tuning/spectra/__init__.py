"""Spectra of data: how signals are read, their power spectra, what those suggest, and layers matched to them."""
