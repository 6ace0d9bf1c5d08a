"""Where a submission comes from, link by link, and how to make the same bytes again."""
