"""Building blocks that know nothing of the rest of the package: errors, validation, files, registries."""
