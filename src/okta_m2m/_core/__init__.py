"""The core: the service app, its token, and how that is fetched. Nothing here is public."""
