"""State space models and their behavior: poles and residues, frequency grids, Sobolev weights, responses. No files and no families."""
