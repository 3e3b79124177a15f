"""The parts of the seeded market: prices, tapes, chains. `simulator.market` is the one door."""
