"""onetape: share one Massive.com subscription among any number of programs."""

__version__ = "0.1.0"
