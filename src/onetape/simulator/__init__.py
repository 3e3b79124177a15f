"""A simulator of the vendors: one seeded market behind their REST and WebSocket grammars."""
