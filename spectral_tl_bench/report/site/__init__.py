"""A static page of boards and runs that opens from a file, offline."""

from spectral_tl_bench.report.site.build import Built, build_site, write_site

__all__ = ["Built", "build_site", "write_site"]
