"""The smallest pretraining of any backbone on small archives."""

from pathlib import Path

from spectral_tl_bench.pretraining.planning import Asked, plan

TINIEST = {
    "image_size": 16,
    "reconstruction_batch_size": 4,
    "reconstruction_steps": 4,
    "reconstruction_decoder_width": 16,
    "reconstruction_decoder_depth": 1,
    "reconstruction_decoder_heads": 2,
    "augmentation": False,
}


def planned(backbone, archives, **changes):
    """A plan; ``archives`` are folders by name."""
    training = TINIEST | changes.pop("training", {})
    named = tuple((name, Path(root)) for name, root in archives)
    return plan(Asked(backbone, named, training=training, **{"preset": "quick"} | changes))
