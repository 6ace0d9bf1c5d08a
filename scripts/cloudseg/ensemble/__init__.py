"""From probability stores to masks: blending, decisions, scores and submissions."""
