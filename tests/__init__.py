"""The tests, in the folders of what they test; `helpers` is what they share."""
