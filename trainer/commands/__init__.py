"""The commands of `emotion-trainer`, one file each."""
