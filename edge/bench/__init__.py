"""What this machine can do: `emotion-edge bench`."""
