"""What determines a run: its specification, presets, settings and protocols."""
