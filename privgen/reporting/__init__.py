"""report.json and one self-contained report.html."""
