"""The second simulated vendor: Tradier's REST API and streams, over the same market."""
