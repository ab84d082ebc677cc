"""Examples for published tasks, which are read from local release files, or drawn by the rules that made these files."""
