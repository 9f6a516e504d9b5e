"""The desktop side: labelled faces in, a quantised model file for the daemon out."""
