"""Pretraining of backbones on unlabelled images of several sensors, by masked reconstruction."""
