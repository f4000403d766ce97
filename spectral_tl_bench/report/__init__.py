"""Tables, statistics, leaderboards and plots, made from run records alone."""
