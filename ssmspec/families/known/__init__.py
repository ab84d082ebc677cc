"""The known families, one file per source layout. A new family is one file here and one line in `FAMILIES`."""
