"""Files named by the user: atomic writing (complete or not at all), and reading small files without executing anything in them."""
