"""Checks what the gateway assumes about the live DashScope, once, with a real key and for a few fen.

`probes` make the calls and keep the responses as evidence. `checks` judge the evidence, without calls. `runner` runs
both within a budget and a deadline, and cleans up.
"""
