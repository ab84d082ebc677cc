"""Selective layers: operating points, recorded calibrations, and the linear system that a layer is at such a point."""
