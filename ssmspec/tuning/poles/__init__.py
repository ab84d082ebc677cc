"""Poles and residues: initializations, alpha, diagonal form, and residues refitted on the same poles."""
