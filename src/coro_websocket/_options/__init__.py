"""What the user may ask for, and where it leads: options, URL, TLS, proxy.

The rule: a wrong value is refused here, before anything is opened.
"""
