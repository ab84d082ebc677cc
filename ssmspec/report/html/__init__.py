"""Reports: results -> one HTML file. data.py makes the JSON in it, page.py the file; static/ is what runs in the browser."""
