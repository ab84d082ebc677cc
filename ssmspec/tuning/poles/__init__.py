"""Poles and residues: initializations, alpha, diagonal form, and refitting of residues with fixed poles."""
