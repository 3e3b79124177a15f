"""The commands that read market data through a gateway."""
