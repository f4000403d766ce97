"""The training stages as Lightning modules, their decoders and losses, fitting and checkpoints."""
