"""One state space model and what it does: poles and residues, frequency grids, Sobolev weights, responses. No file and no family."""
