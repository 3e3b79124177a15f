"""What is computed here from data that came: the standard library and nothing else.

greeks       what an option should be worth, its Greeks, the volatility in its price
indicators   averages, strength, ranges and bands over prices and bars
bars         short bars rolled up to long ones

Pure functions: time comes in as an argument, and what is not known is None.
"""
