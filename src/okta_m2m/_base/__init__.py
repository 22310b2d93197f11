"""Plain data and what is said of it: everything else may use it. Nothing here is public."""
