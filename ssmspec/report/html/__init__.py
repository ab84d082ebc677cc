"""Reports: results -> one HTML file with interactive figures. data.py -> the JSON in it, page.py -> the file, static/ -> what runs in it."""
