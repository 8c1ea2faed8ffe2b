"""Routing: which handler a path belongs to, on werkzeug's routing.

The rule: what matches is the path as it was meant, each of its segments decoded by itself. What
could be read in two ways (dot segments, text that is not UTF-8) matches nothing.
"""
