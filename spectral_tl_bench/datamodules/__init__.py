"""Batches of a protocol: who trains and who is held out, windows, samplers, radiometry."""
