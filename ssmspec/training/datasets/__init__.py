"""Examples that published tasks learn from: read from local release files, or drawn by the rules that made those."""
