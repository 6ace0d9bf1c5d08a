"""From the probabilities of trained networks to masks, and what these are worth.

Read the files by what they do. Blends: `parts`, `blending`, `whether`, `ingredients`, and the search for members,
`candidates`, `selecting`, `selection`. Masks: `plane_scores`, `masking`, `decision`, and `blended`, which all that
makes masks reads images by. Choices: `surface`, `deciding` on it, and beyond it `choosing`, `gates`, `gate_tables`,
`neighbourhood`, `searching`, `rating`, `expecting`; `decide_blend` brings a rule to its choice. Scores: `scores`,
`score_tables`, `comparing`, `diagnosis` with `calibration`, `presence` and `agreement`. Last `submission`, `publish`.
"""
