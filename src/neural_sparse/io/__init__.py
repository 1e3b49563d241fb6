"""Files, places, parts of long work, and what is printed."""
