"""The settings of a run as small as it gets."""

TINIEST = {
    "image_size": 32,
    "batch_size": 2,
    "reconstruction_batch_size": 2,
    "reconstruction_steps": 2,
    "segmentation_steps": 2,
    "validations": 1,
    "decoder_channels": 8,
    "reconstruction_decoder_width": 16,
    "reconstruction_decoder_depth": 1,
    "reconstruction_decoder_heads": 2,
}

TINY = TINIEST | {"reconstruction_steps": 3, "segmentation_steps": 4, "validations": 2}
"""A run that scores its held-out tiles more than once."""
