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
