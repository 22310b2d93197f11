"""Plain data, which everything else may use. Nothing here is public."""
