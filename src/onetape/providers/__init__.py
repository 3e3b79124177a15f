"""What a provider of market data is (`interfaces`), and what every vendor's is made of.

`vendor` is the frame: questions asked once, kept, timed, their failures named. `following`
with its views, `live_quote` and `live_chain`, is how a subscription is served.
"""
