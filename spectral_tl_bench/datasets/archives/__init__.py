"""The published archives, one file each."""
