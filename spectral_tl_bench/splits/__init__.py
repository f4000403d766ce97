"""Which tiles train, which are held out and which are scored."""
