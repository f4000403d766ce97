"""Figures published by others, and the boards that ``spectral-bench leaderboard`` makes."""
