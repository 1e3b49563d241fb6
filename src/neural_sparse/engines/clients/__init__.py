"""What `export` lays beside documents as client.py: programs of their own, which need no part of this package."""
