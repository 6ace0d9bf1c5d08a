"""The colour of each class, the same in every picture and page, told apart by colour-blind people, too."""

import colorsys

# Okabe and Ito's palette ("Color Universal Design", 2008) without its black and with its yellow last: on white paper
# yellow is hard to see, and most data sets have fewer classes.
PALETTE = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442")
TRUTH = "#ffffff"  # outlines of labels on a picture
INK = "#222222"
QUIET = "#9a9a9a"  # what is there to compare with: baselines, other members
GOLDEN_ANGLE = 0.381966  # of a turn: each next hue lies in the widest gap of those before


def class_colour(number: int) -> str:
    """Return the colour of a class by its place among the classes, as ``#rrggbb``.

    Examples
    --------
    >>> class_colour(0), class_colour(1), len({class_colour(number) for number in range(64)})
    ('#e69f00', '#0072b2', 64)
    """
    if number < len(PALETTE):
        return PALETTE[number]
    lightness = (0.35, 0.6, 0.47)[number % 3]
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN_ANGLE % 1, lightness, 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))


def class_colours(count: int) -> list[str]:
    """Return the colours of so many classes, in their order."""
    return [class_colour(number) for number in range(count)]


def rgb(colour: str) -> tuple[int, int, int]:
    """Return a colour as three numbers, 0 to 255.

    Examples
    --------
    >>> rgb("#0072b2")
    (0, 114, 178)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
