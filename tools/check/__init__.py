"""Whether this machine restores as the papers do: one command, one report."""
