"""The server side of teambed, in packet order.

bpf/ and steering (what a NIC keeps) -> records and decision (Figure 4) -> hold, reload, context, repair (a move)
-> relay and engine (one program, N+1 times) -> policy and agent (what is moved, and when).
"""
