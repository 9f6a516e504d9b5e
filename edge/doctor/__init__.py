"""`emotion-edge doctor`: what is in the way of the daemon on this machine, and what to do about it."""
