"""What an administrator does: create the app, grant, rotate its keys, find out what is wrong."""

__all__: list[str] = []
