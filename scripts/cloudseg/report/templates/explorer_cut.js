// What a threshold and a minimum size do. Masks are cut here as cloudseg.postprocess cuts them: a pixel is in when its
// value >= level, a component of 8 neighbours stays when it has at least minSize pixels, and 0 and 1 keep everything.
// The other side of the texts that are unpacked here is cloudseg/report/packing.py.
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("explorer-data").textContent);
const { classes, sources, images, height, width } = data;
const pixels = height * width;
const ALL = -1; // in place of a class
const FULL = 2 ** 31; // what stands for a Dice of 1
const KEPT_PLANES = 8; // images whose probabilities stay unpacked

// ---- Unpacking

async function bytesOf(id) {
  const packed = Uint8Array.from(atob(at(id).textContent), (letter) => letter.charCodeAt(0));
  const inflated = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(inflated).arrayBuffer());
}

// Remembers what was unpacked last, so that going back and forth costs nothing
function remembering(unpack, most) {
  const known = new Map();
  return (...key) => {
    const name = key.join("-"), found = known.get(name) ?? unpack(...key);
    known.delete(name);
    known.set(name, found);
    if (known.size > most) known.delete(known.keys().next().value);
    return found;
  };
}

const byClass = (values) => classes.map((_, klass) => values.subarray(klass * pixels, (klass + 1) * pixels));

// What is stored of a pixel is its difference from the median of left, above, and left + above - corner
const planesOf = remembering(async (source, image) => {
  const values = await bytesOf(`planes-${source}-${image}`);
  for (let first = 0; first < values.length; first += pixels) {
    for (let x = 1; x < width; x++) values[first + x] += values[first + x - 1];
    for (let row = first + width; row < first + pixels; row += width) {
      values[row] += values[row - width];
      for (let place = row + 1; place < row + width; place++) {
        const left = values[place - 1], above = values[place - width], corner = values[place - width - 1];
        const low = left < above ? left : above, high = left < above ? above : left;
        values[place] += corner >= high ? low : corner <= low ? high : left + above - corner;
      }
    }
  }
  return byClass(values);
}, KEPT_PLANES);

const truthOf = remembering(async (image) => {
  if (!at(`truth-${image}`)) return null;
  const bits = await bytesOf(`truth-${image}`);
  const masks = new Uint8Array(classes.length * pixels);
  for (let place = 0; place < masks.length; place++) masks[place] = (bits[place >> 3] >> (7 - (place & 7))) & 1;
  return byClass(masks);
}, KEPT_PLANES);

// The Dice of all images, class by class, level by level, minimum size by minimum size, in 2^-31
const surfaceOf = remembering(async (source) => {
  if (!sources[source].scored) return null;
  const bytes = await bytesOf(`surface-${source}`), count = bytes.length / 4;
  const sizes = sources[source].minSizes.length, fractions = new Uint32Array(count);
  for (let place = 0; place < count; place++) {
    const byte = (number) => bytes[place + number * count] << (8 * number);
    const step = byte(0) + byte(1) + byte(2) + byte(3);
    const isFirstLevel = place % (256 * sizes) < sizes;
    fractions[place] = step + (isFirstLevel ? 0 : fractions[place - sizes]);
  }
  return fractions;
}, sources.length);

// ---- Cutting a mask

const mostRuns = height * Math.ceil(width / 2);
const starts = new Int32Array(mostRuns), ends = new Int32Array(mostRuns);
const parents = new Int32Array(mostRuns), areas = new Int32Array(mostRuns);

function rootOf(run) {
  while (parents[run] !== run) run = parents[run] = parents[parents[run]];
  return run;
}

function unite(one, other) {
  const a = rootOf(one), b = rootOf(other);
  if (a === b) return;
  const root = Math.min(a, b), child = Math.max(a, b);
  parents[child] = root;
  areas[root] += areas[child];
}

// Finds the runs of pixels that reach a level and joins those that touch, at corners, too; returns how many there are
function findRuns(plane, level) {
  let count = 0, above = 0, aboveEnd = 0;
  for (let row = 0; row < pixels; row += width) {
    const rowEnd = row + width, rowFirst = count;
    for (let place = row; place < rowEnd; place++) {
      if (plane[place] < level) continue;
      const start = place;
      while (place < rowEnd && plane[place] >= level) place++;
      starts[count] = start;
      ends[count] = place;
      parents[count] = count;
      areas[count] = place - start;
      while (above < aboveEnd && ends[above] + width < start) above++;
      for (let run = above; run < aboveEnd && starts[run] + width <= place; run++) unite(run, count);
      count++;
    }
    above = rowFirst;
    aboveEnd = count;
  }
  return count;
}

// Writes a mask; returns its pixels, and those that it shares with the truth
function cut(plane, truth, { level, size }, mask) {
  const count = findRuns(plane, level);
  let kept = 0, both = 0;
  mask.fill(0);
  for (let run = 0; run < count; run++) {
    if (areas[rootOf(run)] < size) continue;
    mask.fill(1, starts[run], ends[run]);
    kept += ends[run] - starts[run];
    if (truth) for (let place = starts[run]; place < ends[run]; place++) both += truth[place];
  }
  return { kept, both };
}

// ---- The numbers

// Of an image and class; null where there is no truth
function diceOfImage({ kept, both, covered }) {
  if (covered === null) return null;
  return covered + kept ? (2 * both) / (covered + kept) : 1;
}

const sameSize = (one, other) => Math.max(one, 1) === Math.max(other, 1);

// Of all images: { dice }, or the sizes of the surface that a size lies between, with the Dice of each
function diceOfAll(surface, source, klass, { level, size }) {
  const { minSizes, scored } = source;
  if (!scored) return { dice: null };
  const dice = (place) => surface[(klass * 256 + level) * minSizes.length + place] / FULL;
  const exact = minSizes.findIndex((known) => sameSize(known, size));
  if (exact >= 0) return { dice: dice(exact) };
  const above = minSizes.findIndex((known) => known > size);
  const below = (above < 0 ? minSizes.length : above) - 1;
  const near = [below, above].filter((place) => place >= 0);
  return { dice: null, near: near.map((place) => ({ size: minSizes[place], dice: dice(place) })) };
}

function mean(numbers) {
  const lacking = numbers.length === 0 || numbers.some((number) => number === null);
  return lacking ? null : numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

// Four digits as Python writes them: what lies halfway, as odd 32nds do, goes to the even digit
function four(dice) {
  if (dice === null) return "\u2013";
  const halfway = Number.isInteger(dice * 32) && (dice * 32) % 2 !== 0;
  const low = Math.floor(dice * 10_000);
  return (halfway ? (low + (low % 2)) / 10_000 : dice).toFixed(4);
}

const short = (number) => String(Number(number.toFixed(4)));
const ofBlend = (level) => level / 255;
const probability = (level, { sharpen }) => ofBlend(level) ** (1 / (sharpen ?? 1));

// As cloudseg.postprocess.level, for a probability that a sharpened blend holds the power of
function levelOf(threshold, { sharpen }) {
  return Math.max(Math.ceil(255 * threshold ** (sharpen ?? 1) - 1e-9), 0);
}

// The level of a source that stands for the same probability as one of another, or the nearest to it
function levelLike(level, from, to) {
  return Math.round(255 * probability(level, from) ** (to.sharpen ?? 1));
}

function thresholdText(level, source) {
  const blend = source.sharpen === null ? "" : ` (${short(ofBlend(level))} sharpened)`;
  return short(probability(level, source)) + blend;
}
