"""What all of it stands on: settings, checkpoints, files, devices, errors, signals."""
