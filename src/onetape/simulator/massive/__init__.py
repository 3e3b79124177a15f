"""The simulated Massive: its REST API, its WebSockets, its customers."""
