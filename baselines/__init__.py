"""Baseline methods, one file each: plugins like any third party's."""
