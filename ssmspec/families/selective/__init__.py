"""Selective layers: operating points, recorded calibrations, and the linear system that a layer becomes at an operating point."""
