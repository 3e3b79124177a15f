"""Every number that leaves is right, or marked: rules find, provenance scores.

rules       what a rule is, and what it is told of the time
quotes      quotes and trades
contracts   one contract of a chain
chains      a chain: its contracts one by one, and what it covers
candles     bars, single and in series
indices     an index, now and over several bar lengths
score       how old each kind may be; what sources add to a verdict
reasons     every code in one table

A judge returns the datum as it was, with a `Quality`. It changes no number.
"""
