"""The vendor Massive: its two grammars, the machine of its socket, and the two edges.

wire_rest, wire_stream   what travels, both sides; no I/O
feed                     one upstream socket as a machine: time in, effects out
stream, rest             the edges: sockets and timers, nothing clever
"""
