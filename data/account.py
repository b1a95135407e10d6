"""What was done with the user's text, in lines to be shown before a run begins; often in none."""

from data.reading import Survey


def of(about: Survey) -> list[str]:
    """The lines about a text. A single file that is read as it is needs none."""
    found = about.found
    return [found.said()] if len(found.files) > 1 or found.left_out else []
