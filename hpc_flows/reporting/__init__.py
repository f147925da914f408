"""Reporting: events go from journals to sinks, such as a server, and are neither lost nor doubled.

The journal is the truth, and what a sink holds is a copy of it. A relay reads journals from where
it stopped, sends what is new, and notes how far it came once the sink has said that it holds it.
Whatever goes wrong between the two is mended by sending again.
"""
