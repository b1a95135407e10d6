"""Text -> ids -> windows."""
