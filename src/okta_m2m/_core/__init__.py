"""The core: the service app, and the fetching of its token. Nothing here is public."""
