"""The threads of this package, and what waits for them. Nothing here is public."""
