// The layers over the picture: masks, and the outline of the truth.

const little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
function packedColour(colour, alpha) {
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  const [r, g, b, a] = little ? [0, 8, 16, 24] : [24, 16, 8, 0];
  return ((red << r) | (green << g) | (blue << b) | (alpha << a)) >>> 0;
}

function layer(id) {
  const canvas = at(id), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [width, height];
  const picture = context.createImageData(width, height);
  const paint = () => context.putImageData(picture, 0, 0);
  return { canvas, paint, colours: new Uint32Array(picture.data.buffer) };
}

const maskLayer = layer("mask-layer"), truthLayer = layer("truth-layer");
const outside = packedColour("#000000", 150), white = packedColour(data.truth, 255);

// Whether a pixel has one of another kind so many steps to a side; beyond the border nothing is in
function hasEdge(mask, place, steps) {
  const x = place % width, value = mask[place];
  const left = x >= steps ? mask[place - steps] : 0, right = x + steps < width ? mask[place + steps] : 0;
  const above = place >= steps * width ? mask[place - steps * width] : 0;
  const below = place + steps * width < pixels ? mask[place + steps * width] : 0;
  return left !== value || right !== value || above !== value || below !== value;
}

function paintMasks() {
  const { colours, paint } = maskLayer;
  colours.fill(0);
  for (const klass of state.mask ? shownClasses() : []) {
    const { mask } = cuts[klass];
    const line = packedColour(data.colours[klass], 255), fill = packedColour(data.colours[klass], 110);
    for (let place = 0; place < pixels; place++) {
      if (mask[place]) colours[place] = hasEdge(mask, place, 1) ? line : colours[place] || fill;
    }
  }
  paint();
}

// A white line, with the colour of the class inside where there are several, and a dark one around it
function paintTruth() {
  const { colours, paint } = truthLayer;
  colours.fill(0);
  for (const klass of state.truth && truth ? shownClasses() : []) {
    const mask = truth[klass], inner = state.klass === ALL ? packedColour(data.colours[klass], 255) : white;
    for (let place = 0; place < pixels; place++) {
      const nearEdge = hasEdge(mask, place, 1);
      if (mask[place] && nearEdge) colours[place] = white;
      else if (mask[place] && hasEdge(mask, place, 2)) colours[place] = inner;
      else if (!mask[place] && nearEdge) colours[place] ||= outside;
    }
  }
  paint();
}

function shownClasses() {
  return state.klass === ALL ? [...classes.keys()] : [state.klass];
}
