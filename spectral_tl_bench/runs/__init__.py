"""From what a user asks for to a finished run: requests, plans, training, sweeps."""
