"""The gateway: one upstream subscription, any number of clients.

Read `app` first: it introduces everything here to everything else.
"""
