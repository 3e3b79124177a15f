"""Tradier: the other vendor, asked when the first one cannot answer. Slower, but reliable.

`wire_rest`, `parse`, `greeks`, `wire_stream`, `budget` and `feed` are pure; `rest` and
`stream` are the edges, `providers` what they serve, `connection` puts them together. Tradier marks no asset class and writes `BRK/B`; here, and
everywhere above, symbols are in Massive's form.
"""
