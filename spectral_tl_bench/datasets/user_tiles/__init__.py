"""Tiles of any other sensor, described by a protocol file."""
