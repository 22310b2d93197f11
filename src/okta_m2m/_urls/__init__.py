"""Where a token may be sent, and what an org URL is. Nothing here is public."""
