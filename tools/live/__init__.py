"""Where people look while a run goes on: the terminal, the page, the watchman."""
