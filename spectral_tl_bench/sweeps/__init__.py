"""Suites of runs, and the engines that execute them."""
