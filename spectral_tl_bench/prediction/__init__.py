"""Maps from a finished run: whole scenes and target tiles."""
