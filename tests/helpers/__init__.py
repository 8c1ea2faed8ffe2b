"""What plays the other side, and what tests compare with: no tests, nothing of pytest's."""
