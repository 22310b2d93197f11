"""Code that adapters share."""
