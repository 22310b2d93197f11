"""Settings for gunicorn. The service app is created before the workers are forked. Each keeps it."""

workers = 2
threads = 4
preload_app = True
