"""Machines: sans-I/O, time in as an argument, effects out as return values."""
