"""The two stages as Lightning modules, their losses, and training them."""
