"""Fewer modes: balanced truncation, modal truncation, H2-optimal reduction, and the exact error of what is stored."""
