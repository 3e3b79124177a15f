"""The client of a gateway: `MassiveDataProvider`."""
