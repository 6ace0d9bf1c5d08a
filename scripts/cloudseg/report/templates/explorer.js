// What the page shows, its controls, its keys and its address.

// What the page shows. A cut is { level, size }, one per class.
const state = { source: 0, image: 0, klass: ALL, cuts: ownCuts(sources[0]), mask: true, truth: true };

function ownCuts(source) {
  return source.cuts.map(([level, size]) => ({ level, size }));
}

let planes = null, truth = null, surface = null; // of the image and source that are shown
let loaded = {}; // which image and source these are of
let asked = 0; // counts the requests, so that what was asked for earlier and comes later is dropped
const notCut = { level: null, size: null, kept: 0, both: 0, covered: null };
const cuts = classes.map(() => ({ ...notCut, mask: new Uint8Array(pixels) }));

// Unpacks what the state asks for and draws it
async function show() {
  const request = ++asked, { source, image } = state;
  const isThere = images.length > 0 && images[image].sources.includes(source);
  const unpacked = await Promise.all([
    isThere ? planesOf(source, image) : null, isThere ? truthOf(image) : null, surfaceOf(source),
  ]);
  if (request !== asked) return;
  [planes, truth, surface] = unpacked;
  loaded = { source, image };
  for (const [klass, one] of cuts.entries()) {
    one.level = null;
    one.covered = truth && truth[klass].reduce((sum, pixel) => sum + pixel, 0);
  }
  at("stage").hidden = !isThere;
  if (isThere) {
    at("picture").src = `data:image/jpeg;base64,${at(`picture-${image}`).textContent}`;
    at("picture").alt = maskLayer.canvas.ariaLabel = images[image].name;
  }
  paintTruth();
  redraw();
}

// Cuts the masks whose cut has changed, and writes all numbers
function redraw() {
  for (const [klass, wanted] of planes ? state.cuts.entries() : []) {
    const one = cuts[klass];
    if (one.level === wanted.level && one.size === wanted.size) continue;
    Object.assign(one, wanted, cut(planes[klass], truth && truth[klass], wanted, one.mask));
  }
  paintMasks();
  writeNumbers();
  writeControls();
  writeAddress();
}

// Dice per class and their means, as shown
function numbers() {
  const image = planes ? cuts.map(diceOfImage) : classes.map(() => null);
  const all = state.cuts.map((one, klass) => diceOfAll(surface, sources[state.source], klass, one));
  return { image, imageMean: mean(image), all, allMean: mean(all.map((one) => one.dice)) };
}

const body = at("numbers").tBodies[0];
const rows = [...classes, "all classes"].map((name, klass) => {
  const row = body.insertRow();
  for (let cell = 0; cell < 7; cell++) row.insertCell().className = cell ? "number" : "text";
  row.cells[0].textContent = name;
  if (klass < classes.length) {
    const colour = document.createElement("i");
    colour.style.background = data.colours[klass];
    row.cells[0].prepend(colour);
  } else row.classList.add("all");
  return row;
});

function writeRow(row, texts) {
  for (const [place, text] of texts.entries()) row.cells[place + 1].textContent = text;
}

function writeNumbers() {
  const source = sources[state.source], { image, imageMean, all, allMean } = numbers();
  const own = ownCuts(source).map((one, klass) => diceOfAll(surface, sources[state.source], klass, one).dice);
  for (const [klass, { level, size }] of state.cuts.entries()) {
    const kept = planes ? cuts[klass].kept.toLocaleString("en") : "\u2013";
    const words = all[klass].near?.map((one) => `${one.size}: ${four(one.dice)}`).join(", ") ?? four(all[klass].dice);
    writeRow(rows[klass], [four(image[klass]), words, four(own[klass]), thresholdText(level, source), size, kept]);
    rows[klass].classList.toggle("chosen", klass === state.klass);
  }
  writeRow(rows.at(-1), [four(imageMean), four(allMean), four(mean(own))]);
  writeSummary(image, imageMean, all, allMean);
  const between = classes.filter((_, klass) => all[klass].near);
  at("between").textContent = between.length === 0 ? "" :
    `The Dice of all images is known for certain minimum sizes. The one of ${between.join(", ")} lies between or `
    + "beyond these: the Dice of its neighbours is given, and no mean over classes.";
}

function writeSummary(image, imageMean, all, allMean) {
  const source = sources[state.source], { klass } = state, one = state.cuts[klass];
  const what = klass === ALL ? "All classes." : `${classes[klass]} at threshold ${thresholdText(one.level, source)}, `
    + `level ${one.level}, minimum size ${one.size}.`;
  const [here, everywhere] = klass === ALL ? [imageMean, allMean] : [image[klass], all[klass].dice];
  const near = klass === ALL ? null : all[klass].near;
  const known = near ? near.map(({ size, dice }) => `${four(dice)} with ${size}`).join(", ") : four(everywhere);
  const ofImage = here !== null ? `Dice of this image ${four(here)}.`
    : images.length ? "This image has no truth." : "There are no images.";
  const ofAll = source.scored ? `Dice of all images ${known}.` : "There is no Dice of all images.";
  at("summary").textContent = `${what} ${ofImage} ${ofAll}`;
  at("key-to-colours").textContent = klass === ALL
    ? "Filled: the masks in the colours of the table. White with a coloured line inside: the truth."
    : "Filled: the mask. White line: the truth.";
}

// ---- Controls

const named = ["source", "image", "class", "mask", "truth", "level", "threshold", "level-box", "size", "size-box"];
const control = Object.fromEntries(named.map((id) => [id, at(id)]));

function addOption(parent, value, text) {
  const option = new Option(text, value);
  parent.append(option);
  return option;
}

for (const [place, source] of sources.entries()) addOption(control.source, place, source.name);
addOption(control.class, ALL, "all classes");
for (const [klass, name] of classes.entries()) addOption(control.class, klass, name);
const groups = { valid: `Out of fold, from the worst; Dice of ${data.ranked}`, test: "Test, without truth" };
for (const [split, label] of Object.entries(groups)) {
  const group = Object.assign(document.createElement("optgroup"), { label });
  for (const [place, image] of images.entries()) {
    const dice = image.dice === null ? "" : `, Dice ${four(image.dice)}`;
    if (image.split === split) addOption(group, place, `${image.name}${dice}`);
  }
  if (group.children.length) control.image.append(group);
}

// The one cut of all chosen classes, null for what differs among them
function chosenCut() {
  const [first, ...others] = shownClasses().map((klass) => state.cuts[klass]);
  const common = (key) => (others.every((one) => one[key] === first[key]) ? first[key] : null);
  return { first, level: common("level"), size: common("size") };
}

function writeBox(box, value) {
  box.value = value ?? "";
  box.placeholder = value === null ? "several" : "";
}

function placeOfSize(size) {
  return Math.max(sources[state.source].minSizes.findLastIndex((known) => known <= size), 0);
}

function writeControls() {
  const source = sources[state.source], { first, level, size } = chosenCut();
  control.source.value = state.source;
  control.image.value = state.image;
  control.class.value = state.klass;
  control.mask.checked = state.mask;
  control.truth.checked = state.truth;
  control.level.value = first.level;
  control.level.ariaValueText = level === null ? "several" : thresholdText(level, source);
  control.size.max = source.minSizes.length - 1;
  control.size.value = placeOfSize(first.size);
  control.size.ariaValueText = size === null ? "several" : `${size} pixels`;
  writeBox(control["level-box"], level);
  writeBox(control.threshold, level === null ? null : Number(short(probability(level, source))));
  writeBox(control["size-box"], size);
  for (const option of control.image.options) option.disabled = !images[option.value].sources.includes(state.source);
  at("sharpened").hidden = source.sharpen === null;
  at("sharpened").textContent = source.sharpen === null || level === null ? "" :
    `These probabilities were raised to the power ${source.sharpen} before they were averaged: `
    + `the blend is cut at ${short(ofBlend(level))}.`;
  at("decided").textContent = decidedText(source);
}

function decidedText(source) {
  if (source.further)
    return `Its decision asks for more (${source.further}), which is not drawn here: masks and Dice are those of a `
      + "threshold and a minimum size alone, for planes that all count.";
  if (source.how === "fixed") return "Its decision is fixed in the config.";
  const honest = source.nested === null ? "" :
    ` The leaderboard's ${four(source.nested)} is nested: each fold is decided by what the others choose.`;
  return `Its decision was chosen on the images that it is scored on here, which flatters it.${honest}`;
}

const clamped = (value, low, high) => Math.min(Math.max(Math.round(value), low), high);
const clampedLevel = (level) => clamped(level, 0, 255);
const clampedSize = (size) => clamped(size, 0, 2 ** 31 - 1);

let translated = {}; // the cuts that were last made of those of another power, what they were, and that power

// A level of a sharpened blend stands for another probability: the probability is what stays. Without a change
// between, the way back leads to the very same levels.
function keepThresholds(from, to) {
  if (from.sharpen === to.sharpen) return;
  const were = state.cuts, isBack = translated.cuts === were && translated.sharpen === to.sharpen;
  state.cuts = isBack ? translated.were : were.map((one) => ({ ...one, level: levelLike(one.level, from, to) }));
  translated = { cuts: state.cuts, were, sharpen: from.sharpen };
}

// Takes over changes; what is not on the page is left as it was. Ends when they are drawn.
function set(changes) {
  const before = { ...state };
  Object.assign(state, changes);
  if (images.length && !images[state.image].sources.includes(state.source)) {
    const found = images.findIndex((image) => image.sources.includes(state.source));
    if (changes.source === undefined || found < 0) [state.source] = images[state.image].sources;
    else state.image = found;
  }
  if (changes.cuts === undefined) keepThresholds(sources[before.source], sources[state.source]);
  if (loaded.source !== state.source || loaded.image !== state.image) return show();
  if (state.klass !== before.klass || state.truth !== before.truth) paintTruth();
  redraw();
  return Promise.resolve();
}

// Changes the cut of all chosen classes
function setCut(change) {
  const chosen = new Set(shownClasses());
  return set({ cuts: state.cuts.map((one, klass) => (chosen.has(klass) ? { ...one, ...change } : one)) });
}

function setOwn() {
  const own = ownCuts(sources[state.source]), chosen = new Set(shownClasses());
  return set({ cuts: state.cuts.map((one, klass) => (chosen.has(klass) ? own[klass] : one)) });
}

const setLevel = (level) => setCut({ level: clampedLevel(level) });
const setSize = (size) => setCut({ size: clampedSize(size) });

function stepSize(step) {
  const { minSizes } = sources[state.source], { first } = chosenCut(), place = placeOfSize(first.size);
  const isBetween = step < 0 && minSizes[place] < first.size;
  return setSize(minSizes[clamped(isBetween ? place : place + step, 0, minSizes.length - 1)]);
}

function stepImage(step) {
  const usable = [...images.keys()].filter((image) => images[image].sources.includes(state.source));
  const place = usable.indexOf(state.image) + step;
  if (usable.length) set({ image: usable.at(place % usable.length) });
}

const chooseClass = (klass) => klass < classes.length && set({ klass });

control.source.addEventListener("change", () => set({ source: Number(control.source.value) }));
control.image.addEventListener("change", () => set({ image: Number(control.image.value) }));
control.class.addEventListener("change", () => set({ klass: Number(control.class.value) }));
control.mask.addEventListener("change", () => set({ mask: control.mask.checked }));
control.truth.addEventListener("change", () => set({ truth: control.truth.checked }));
control.level.addEventListener("input", () => setLevel(Number(control.level.value)));
control.size.addEventListener("input", () => setSize(sources[state.source].minSizes[control.size.value]));
// An empty box, or one with anything but a number, changes nothing
const whenTyped = (box, change) => box.addEventListener("change", () => {
  if (box.value !== "" && Number.isFinite(box.valueAsNumber)) change(box.valueAsNumber);
  writeControls();
});
whenTyped(control["level-box"], setLevel);
whenTyped(control["size-box"], setSize);
whenTyped(control.threshold, (threshold) => {
  setLevel(levelOf(Math.min(Math.max(threshold, 0), 1), sources[state.source]));
});
at("own").addEventListener("click", setOwn);
at("previous").addEventListener("click", () => stepImage(-1));
at("next").addEventListener("click", () => stepImage(1));
at("controls").addEventListener("submit", (event) => event.preventDefault());

const keys = {
  ArrowLeft: () => stepImage(-1),
  ArrowRight: () => stepImage(1),
  ArrowUp: (event) => setLevel(chosenCut().first.level + (event.shiftKey ? 10 : 1)),
  ArrowDown: (event) => setLevel(chosenCut().first.level - (event.shiftKey ? 10 : 1)),
  "[": () => stepSize(-1),
  "]": () => stepSize(1),
  s: () => set({ source: (state.source + 1) % sources.length }),
  d: setOwn,
  m: () => set({ mask: !state.mask }),
  t: () => set({ truth: !state.truth }),
  0: () => set({ klass: ALL }),
  ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map((digit) => [digit, () => chooseClass(digit - 1)])),
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event, act = Object.hasOwn(keys, key) ? keys[key] : null;
  if (key === "Escape") target.blur();
  const isTyping = target.matches("select, input[type=number], input[type=text]");
  const isSliding = target.matches("input[type=range]") && key.startsWith("Arrow");
  if (!act || isTyping || isSliding || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(event);
});

// ---- The address

// Inside Snakemake's report the page is its own address, of megabytes: nothing is added to that one
const hasAddress = /^(file|https?):$/.test(location.protocol);
let waiting = null;

function hashOf({ source, image, klass, cuts: chosen, mask, truth: outlined }) {
  const words = new URLSearchParams({ source: sources[source].name });
  if (images.length) words.set("image", `${images[image].split}/${images[image].name}`);
  if (klass !== ALL) words.set("class", classes[klass]);
  words.set("cuts", chosen.map(({ level, size }) => `${level}-${size}`).join("_"));
  words.set("mask", Number(mask));
  words.set("truth", Number(outlined));
  return `#${words}`;
}

// What a hash says; what it names that is not on the page is left out
function read(hash) {
  const words = new URLSearchParams(hash.slice(1)), changes = {};
  const find = (key, names, found) => {
    const place = names.indexOf(words.get(key));
    if (place >= 0) changes[found] = place;
  };
  find("source", sources.map(({ name }) => name), "source");
  find("image", images.map(({ split, name }) => `${split}/${name}`), "image");
  find("class", classes, "klass");
  if (words.has("cuts") && !words.has("class")) changes.klass = ALL;
  const chosen = (words.get("cuts") ?? "").split("_").map((text) => text.match(/^(\d{1,3})-(\d{1,10})$/));
  if (chosen.length === classes.length && chosen.every(Boolean)) {
    changes.cuts = chosen.map(([, level, size]) => ({ level: clampedLevel(level), size: clampedSize(size) }));
  }
  for (const key of ["mask", "truth"]) if (words.has(key)) changes[key] = words.get(key) === "1";
  return changes;
}

// A browser takes a few hundred changes of its address in a minute, so it waits until a slider rests
function writeAddress() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const hash = hashOf(state);
    if (hasAddress) history.replaceState(null, "", hash);
    at("link").value = hasAddress ? location.href : hash;
  }, 300);
}

window.addEventListener("hashchange", () => set(read(location.hash)));
at("embedded").hidden = hasAddress;
const stage = at("stage");
stage.style.aspectRatio = `${width} / ${height}`;
stage.style.maxWidth = `calc(85vh * ${width / height})`;

// For tests and for the console
window.explorer = { set, state, numbers, mask: (klass) => cuts[klass].mask, hash: () => hashOf(state), read };
window.explorer.ready = "DecompressionStream" in window
  ? set(hasAddress ? read(location.hash) : {})
  : Promise.reject(new Error("this browser cannot unpack it; newer ones can: Chrome 97, Firefox 119, Safari 16.4"));
window.explorer.ready.catch((error) => {
  at("problem").hidden = false;
  at("problem").textContent = `The page cannot be shown: ${error.message}`;
});
