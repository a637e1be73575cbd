"""The command `runs`, over rooms that read run files through one door (`runs.py`)."""
