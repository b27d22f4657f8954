// The page: what its controls do and what it draws. Two sources fill the same state: the reader's
// GPU (`Live`), or the run that was recorded when the page was written (`Replay`).
'use strict';

const page = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const { model, training, test } = page;

function bytes(base64) {
  const text = atob(base64);
  return Uint8Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
}
const floats = (base64) => new Float32Array(bytes(base64).buffer);

const arrays = { train: bytes(training.data), test: bytes(test.data) };
const imageOf = (i) => arrays.test.subarray(i * model.pixels, (i + 1) * model.pixels);
const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
const scoreOf = ({ mse, cosines }) => mse - page.beta * mean(cosines);
const percent = (share) => `${Math.round(100 * share)} %`;

// What is shown: losses of steps, parts of test images' scores, the gallery's reconstructions.
const state = { curves: [], scores: null, gallery: null, running: false };

// --- Two sources ---

// Trains on the reader's GPU.
class Live {
  constructor(gradcon) { Object.assign(this, { gradcon, chunk: 1 }); }

  async start() {
    const from = $('from').value === 'trained' ? page.trained : null;
    const params = floats(from ? from.params : page.fresh);
    const reference = from ? floats(from.reference) : new Float32Array(model.reference);
    this.gradcon.start(params, reference, from ? from.iterations : 0);
    state.curves = [];
    await this.judge();
  }

  // A few steps, as many as take about 60 ms.
  async advance() {
    const before = performance.now();
    state.curves.push(...await this.gradcon.train(this.chunk));
    const took = (performance.now() - before) / this.chunk;
    this.chunk = Math.max(1, Math.min(training.steps, Math.round(60 / took)));
    if (this.gradcon.atEnd()) await this.judge();
    else if (performance.now() - this.judged > 1000) await this.judge();
    return true;
  }

  async judge() {
    const reconstructions = await this.gradcon.gallery();
    const lanes = reconstructions.length / model.pixels;
    state.gallery = (i, pixel) => reconstructions[pixel * lanes + i];
    state.scores = await this.gradcon.scores();
    await look();
    this.judged = performance.now();
  }

  progress() {
    const { done } = this.gradcon;
    return `epoch ${Math.floor(done / training.steps) + 1}, step ${done % training.steps} of ${training.steps}`;
  }
}

// Shows what was recorded, epoch by epoch.
class Replay {
  constructor() {
    this.frames = page.recorded.frames.map(decoded);
    this.trained = page.recorded.trained && decoded(page.recorded.trained);
    this.at = 0;
    const most = this.frames.length;
    $('recorded').hidden = most === 0;
    $('epoch').max = most;
    $('epoch').addEventListener('input', () => { this.show(Number($('epoch').value)); draw(); });
  }

  start() {
    const isTrained = this.trained && ($('from').value === 'trained' || !this.frames.length);
    $('recorded').hidden = isTrained || !this.frames.length;
    if (isTrained) this.take(this.trained, []);
    else this.show(1);
    this.isTrained = isTrained;
  }

  async advance() {
    if (this.isTrained || this.at >= this.frames.length) return false;
    this.show(this.at + 1);
    await new Promise((done) => setTimeout(done, 300));
    return this.at < this.frames.length;
  }

  show(epoch) {
    this.at = Math.min(epoch, this.frames.length);
    $('epoch').value = this.at;
    if (this.at) this.take(this.frames[this.at - 1], this.frames.slice(0, this.at).flatMap((f) => f.curves));
  }

  take({ scores, gallery }, curves) {
    state.curves = curves;
    state.scores = scores;
    state.gallery = (i, pixel) => gallery[i * model.pixels + pixel] / 255;
  }

  progress() {
    if (this.isTrained) return 'the trained model';
    return this.frames.length ? `epoch ${this.at} of ${this.frames.length}, recorded` : 'nothing was recorded';
  }
}

function decoded({ losses, scores, gallery }) {
  const layers = model.layers.length;
  const split = (values, width) => Array.from(
    { length: values.length / width }, (_, i) => Array.from(values.subarray(i * width, (i + 1) * width)));
  return {
    curves: split(floats(losses), 2 + layers).map(([mse, constraint, ...cosines]) => ({ mse, constraint, cosines })),
    scores: split(floats(scores), 1 + layers).map(([mse, ...cosines]) => ({ mse, cosines })),
    gallery: bytes(gallery),
  };
}

// --- Pictures ---

// Fills a canvas by `rgb(x, y)`, which gives three bytes.
function fill(canvas, width, height, rgb) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set([...rgb(i % width, Math.floor(i / width)), 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

// `value(pixel)` is 0 to 1, of [h, w, c].
function picture(canvas, value) {
  const { size, channels } = model;
  fill(canvas, size, size, (x, y) => [0, 1, 2].map((c) => (
    255 * value((y * size + x) * channels + Math.min(c, channels - 1)))));
}

const INFERNO = [
  [0, 0, 4], [33, 12, 74], [87, 16, 110], [138, 34, 106], [188, 55, 84], [227, 89, 51], [249, 142, 9],
  [249, 203, 53], [252, 255, 164],
];

// The colours of error maps in reports.
function heat(value) {
  const at = Math.max(0, Math.min(1, value)) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[low].map((v, i) => v + (INFERNO[low + 1][i] - v) * (at - low));
}

function errorMap(canvas, image, value) {
  const { size, channels } = model;
  fill(canvas, size, size, (x, y) => {
    let worst = 0;
    for (let c = 0; c < channels; c++) {
      const at = (y * size + x) * channels + c;
      worst = Math.max(worst, Math.abs(value(at) - image[at] / 255));
    }
    return heat(1.5 * worst);
  });
}

// Weights [kh, kw, cy, cx] as kernels beside each other, from blue (down) over gray to orange (up).
function tile(canvas, values, [kh, kw, cy, cx]) {
  const kernels = cy * cx;
  const across = Math.min(kernels, 2 ** Math.ceil(Math.log2(Math.sqrt(kernels))));
  const largest = values.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-30);
  const [background, down, up] = [[128, 128, 128], [31, 111, 191], [240, 120, 20]];
  fill(canvas, across * kw, Math.ceil(kernels / across) * kh, (x, y) => {
    const kernel = Math.floor(y / kh) * across + Math.floor(x / kw);
    const value = values[((y % kh) * kw + x % kw) * kernels + kernel] / largest;
    // Roots, so that what is small is seen as well.
    const share = Math.sqrt(Math.abs(value));
    return background.map((v, i) => v + ((value < 0 ? down : up)[i] - v) * share);
  });
}

// --- Plots ---

const NAMESPACE = $('loss').namespaceURI; // of drawings
const WIDTH = 360, HEIGHT = 210, LEFT = 44, RIGHT = 12, TOP = 10, BOTTOM = 30;

function element(name, attributes, text) {
  const node = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Axes with these ticks; returns where a value is.
function axes(svg, [x0, x1], [y0, y1], xs, ys, names) {
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  const x = (v) => LEFT + (v - x0) / (x1 - x0 || 1) * (WIDTH - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - (v - y0) / (y1 - y0 || 1) * (HEIGHT - TOP - BOTTOM);
  svg.replaceChildren();
  for (const [v, text] of ys) {
    svg.append(element('path', { class: 'grid', d: `M${LEFT} ${y(v)}H${WIDTH - RIGHT}` }));
    svg.append(element('text', { x: LEFT - 6, y: y(v) + 4, 'text-anchor': 'end' }, text));
  }
  for (const [v, text, anchor = 'middle'] of xs) {
    svg.append(element('text', { x: x(v), y: HEIGHT - BOTTOM + 14, 'text-anchor': anchor }, text));
  }
  svg.append(element('path', { class: 'axis', d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }));
  svg.append(element('text', { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, 'text-anchor': 'middle' }, names));
  return { x, y };
}

function path(svg, points, attributes) {
  const d = points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
  svg.append(element('path', { d, ...attributes }));
}

// About four round numbers from 0 to `most`.
function round(most) {
  const least = Math.max(most, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= least);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

// At most 240 points, means of neighbours.
function thinned(curves, value) {
  const width = Math.max(1, Math.ceil(curves.length / 240));
  return Array.from({ length: Math.ceil(curves.length / width) }, (_, i) => {
    const part = curves.slice(i * width, (i + 1) * width);
    return [i * width + part.length / 2, mean(part.map(value))];
  });
}

const old = page.recorded.frames.flatMap((frame) => decoded(frame).curves);

function curves() {
  const shown = $('from').value === 'trained' ? [] : old;
  const steps = Math.max(state.curves.length, shown.length, 2);
  const logs = [...state.curves, ...shown].map(({ mse }) => Math.log10(Math.max(mse, 1e-6)));
  const [low, high] = logs.length ? [Math.min(...thinned(logs, Number).map((p) => p[1])), Math.max(...logs)] : [-2, 0];
  const ticks = [-5, -4, -3, -2, -1, 0].flatMap((e) => [1, 2, 5].map((k) => k * 10 ** e));
  const range = [Math.floor(low * 10) / 10 - 0.05, Math.ceil(high * 10) / 10];
  const inside = ticks.map((v) => [Math.log10(v), String(Number(v.toPrecision(1)))]).filter(([v]) => v >= range[0] && v <= range[1]);
  const xs = round(steps).map((v) => [v, String(v)]);
  const loss = axes($('loss'), [0, steps], range, xs, inside, 'step');
  const place = ({ x, y }) => ([at, v]) => [x(at), y(v)];
  const log = ({ mse }) => Math.log10(Math.max(mse, 1e-6));
  path($('loss'), thinned(shown, log).map(place(loss)), { class: 'line old' });
  path($('loss'), thinned(state.curves, log).map(place(loss)), { class: 'line', style: '--s: var(--full)' });
  const cosine = axes($('cosine'), [0, steps], [-0.2, 1], xs, [0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)]), 'step');
  model.layers.forEach((_, i) => {
    const of = ({ cosines }) => Math.max(-0.2, cosines[i]);
    path($('cosine'), thinned(state.curves, of).map(place(cosine)), { class: 'line', style: `--s: var(--s${i % 8})` });
  });
  const last = state.curves.at(-1);
  const words = last ? `after ${state.curves.length} steps` : 'before training';
  $('loss').setAttribute('aria-label', `Reconstruction error ${words}${last ? `: ${last.mse.toPrecision(3)}` : ''}`);
  $('cosine').setAttribute('aria-label', `Cosines ${words}${last ? `: ${last.cosines.map((c) => c.toFixed(2)).join(', ')}` : ''}`);
}

// The probability that an anomalous image has the higher score.
function auroc(normal, anomalous) {
  let sum = 0;
  for (const a of anomalous) for (const n of normal) sum += a > n ? 1 : a === n ? 0.5 : 0;
  return sum / (normal.length * anomalous.length);
}

function histogram() {
  const all = state.scores.map(scoreOf);
  const of = (label) => all.filter((_, i) => test.labels[i] === label);
  const [normal, anomalous] = [of(0), of(1)];
  // A few images far away shall not flatten the rest.
  const sorted = [...all].sort((a, b) => a - b);
  const [low, high] = [sorted[0], sorted[Math.floor(0.99 * (sorted.length - 1))]];
  const bins = 24, size = (high - low) / bins || 1;
  const shares = (scores) => {
    const counts = new Array(bins).fill(0);
    for (const s of scores) counts[Math.max(0, Math.min(bins - 1, Math.floor((s - low) / size)))] += 1;
    return counts.map((count) => count / Math.max(1, scores.length));
  };
  const both = [[shares(normal), 'normal'], [shares(anomalous), 'anomalous']];
  const most = Math.max(...both.flatMap(([s]) => s));
  const edge = (i) => ['start', 'middle', 'end'][i];
  const xs = [0, 0.5, 1].map((k) => low + k * (high - low)).map((v, i) => [v, v.toFixed(3), edge(i)]);
  const ys = [0, most / 2, most].map((v) => [v, percent(v)]);
  const words = normal.length && anomalous.length ? `AUROC ${auroc(normal, anomalous).toFixed(3)}` : 'score';
  const { x, y } = axes($('histogram'), [low, low + bins * size], [0, most], xs, ys, words);
  for (const [counts, name] of both) {
    const points = counts.flatMap((v, i) => [[x(low + i * size), y(v)], [x(low + (i + 1) * size), y(v)]]);
    if (counts.some((v) => v)) path($('histogram'), [[x(low), y(0)], ...points, [x(low + bins * size), y(0)]], { class: `area ${name}` });
  }
  if (picked.result) {
    const at = Math.max(low, Math.min(high, scoreOf(picked.result)));
    path($('histogram'), [[x(at), TOP], [x(at), y(0)]], { class: 'this' });
  }
  $('histogram').setAttribute('aria-label', `Scores of ${normal.length} normal and ${anomalous.length} anomalous images: ${words}`);
}

// --- The gallery ---

const cards = Array.from({ length: page.gallery }, (_, i) => {
  const card = document.createElement('button');
  Object.assign(card, { type: 'button', disabled: true });
  card.className = `card ${test.labels[i] ? 'anomalous' : 'normal'}`;
  const three = document.createElement('span');
  three.className = 'three';
  const canvases = [0, 1, 2].map(() => document.createElement('canvas'));
  three.append(...canvases);
  const [words, small] = ['span', 'small'].map((name) => document.createElement(name));
  words.className = 'words';
  small.textContent = test.names[i];
  const score = document.createElement('span');
  words.append(score, document.createElement('br'), small);
  card.append(three, words);
  card.addEventListener('click', () => pick(i));
  picture(canvases[0], (pixel) => imageOf(i)[pixel] / 255);
  return { card, canvases, score };
});
// Normal ones first.
const byLabel = [0, 1].flatMap((label) => cards.filter((_, i) => test.labels[i] === label));
$('gallery').append(...byLabel.map(({ card }) => card));

function gallery() {
  cards.forEach(({ card, canvases, score }, i) => {
    picture(canvases[1], (pixel) => state.gallery(i, pixel));
    errorMap(canvases[2], imageOf(i), (pixel) => state.gallery(i, pixel));
    score.textContent = `${test.labels[i] ? 'anomalous' : 'normal'} ${scoreOf(state.scores[i]).toFixed(4)}`;
    if (!card.disabled) card.setAttribute('aria-pressed', String(picked.index === i));
  });
}

// --- One image ---

const picked = { index: 0, image: imageOf(0).slice(), result: null };
let source = null; // where images come from: Live or Replay

function pick(index) {
  Object.assign(picked, { index, image: imageOf(index).slice() });
  showPicked();
}

function showPicked() {
  picture($('canvas'), (pixel) => picked.image[pixel] / 255);
  lookSoon();
}

// Reads the image back that was drawn on.
function takeDrawn() {
  const { size, channels } = model;
  const { data } = $('canvas').getContext('2d').getImageData(0, 0, size, size);
  const gray = (i) => (299 * data[i] + 587 * data[i + 1] + 114 * data[i + 2]) / 1000;
  const value = (i) => (channels === 1 ? gray(4 * i) : data[4 * Math.floor(i / channels) + i % channels]);
  picked.index = null;
  picked.image = Uint8Array.from({ length: model.pixels }, (_, i) => Math.round(value(i)));
  showPicked();
}

// At most one look is under way, and the last one asked for is looked at in any case.
let looking = null, again = false;
function lookSoon() {
  if (looking) { again = true; return; }
  looking = look().then(draw).catch(failed).finally(() => {
    looking = null;
    if (again) { again = false; lookSoon(); }
  });
}

async function look() {
  if (!source?.gradcon) return;
  picked.result = await source.gradcon.look(picked.image);
}

const layerViews = model.layers.map(({ name }) => {
  const figure = document.createElement('figure');
  const pair = document.createElement('div');
  pair.className = 'pair';
  const canvases = [0, 1].map(() => document.createElement('canvas'));
  pair.append(...canvases);
  const caption = document.createElement('figcaption');
  const cos = document.createElement('b');
  caption.append(`${name}: cosine `, cos);
  figure.append(pair, caption);
  $('layers').append(figure);
  return { canvases, cos };
});

let spoken = 0;
function one() {
  const { result, image } = picked;
  if (!result) return;
  picture($('reconstruction'), (pixel) => result.reconstruction[pixel]);
  errorMap($('error'), image, (pixel) => result.reconstruction[pixel]);
  result.layers.forEach(({ g, r, cos }, i) => {
    const { canvases } = layerViews[i];
    tile(canvases[0], g, model.layers[i].shape);
    tile(canvases[1], r, model.layers[i].shape);
    canvases[0].setAttribute('aria-label', 'gradient of the image');
    canvases[1].setAttribute('aria-label', 'reference');
    layerViews[i].cos.textContent = cos.toFixed(3);
  });
  const score = scoreOf(result);
  $('score').textContent = score.toFixed(4);
  $('formula').textContent = `= ${result.mse.toFixed(4)} - ${page.beta} x ${mean(result.cosines).toFixed(3)}`;
  const normal = state.scores.filter((_, i) => test.labels[i] === 0).map(scoreOf);
  const rank = normal.length ? `Higher than ${percent(mean(normal.map((s) => Number(s < score))))} of the normal test images.` : '';
  $('rank').textContent = rank;
  // Not ten times a second to who listens.
  if (performance.now() - spoken > 3000 || !state.running) {
    spoken = performance.now();
    $('verdict').textContent = `Score ${score.toFixed(4)}. ${rank}`;
  }
}

function listenToCanvas() {
  const canvas = $('canvas');
  const context = canvas.getContext('2d', { willReadFrequently: true });
  let last = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * model.size, (event.clientY - box.top) / box.height * model.size];
  };
  const line = (from, to) => {
    Object.assign(context, { strokeStyle: $('brush').value, lineWidth: model.size / 14, lineCap: 'round' });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    takeDrawn();
  };
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    line(last, last);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (last) { const to = at(event); line(last, to); last = to; }
  });
  for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, () => { last = null; });
  $('scratch').addEventListener('click', () => {
    const [a, b] = [0, 1].map(() => [Math.random() * model.size, Math.random() * model.size]);
    line(a, b);
  });
  let before = 0;
  const shown = () => { if (picked.index !== null) before = picked.index; return before; };
  $('undo').addEventListener('click', () => pick(shown()));
  $('gallery').addEventListener('click', shown);
  $('clear').addEventListener('click', () => {
    Object.assign(picked, { index: null, image: new Uint8Array(model.pixels) });
    showPicked();
  });
  const open = async (file) => {
    if (!file) return;
    try {
      const bitmap = await createImageBitmap(file);
      Object.assign(context, { imageSmoothingQuality: 'high' });
      context.fillRect(0, 0, model.size, model.size);
      context.drawImage(bitmap, 0, 0, model.size, model.size);
      takeDrawn();
    } catch {
      $('verdict').textContent = $('rank').textContent = `${file.name} is no picture that this browser can read.`;
    }
  };
  $('file').addEventListener('change', () => open($('file').files[0]));
  canvas.addEventListener('dragover', (event) => { event.preventDefault(); canvas.classList.add('over'); });
  canvas.addEventListener('dragleave', () => canvas.classList.remove('over'));
  canvas.addEventListener('drop', (event) => {
    event.preventDefault();
    canvas.classList.remove('over');
    open(event.dataTransfer.files[0]);
  });
}

// --- Controls ---

function draw() {
  $('progress').textContent = source.progress();
  $('run').textContent = state.running ? 'Pause' : 'Start';
  if ($('epoch').value) $('epoch-value').textContent = $('epoch').value;
  if (!state.scores) return;
  curves();
  histogram();
  gallery();
  one();
}

async function train() {
  state.running = true;
  draw();
  let painted = 0;
  while (state.running) {
    if (!await source.advance()) state.running = false;
    if (performance.now() - painted > 150) { draw(); painted = performance.now(); }
    await new Promise(requestAnimationFrame);
  }
  draw();
}

// One thing at a time: what is asked for ends a training, and waits for what is under way.
let busy = Promise.resolve();
function then(work) {
  state.running = false;
  busy = busy.then(work).then(draw).catch(failed);
  return busy;
}

function failed(error) {
  state.running = false;
  replay(`The GPU stopped: ${error.message}.`);
}

function rates() {
  const [alpha, lr] = [Number($('alpha').value), 10 ** Number($('lr').value)];
  $('alpha-value').textContent = alpha.toFixed(3);
  $('lr-value').textContent = lr.toExponential(1);
  source?.gradcon?.rates(alpha, lr);
}

// From here on somebody answers the buttons.
function listen() {
  for (const id of ['run', 'step', 'over', 'from']) $(id).disabled = false;
}

// Without WebGPU: what is missing, and what was recorded.
function replay(why) {
  const { frames, trained, device } = page.recorded;
  const what = frames.length || trained
    ? `What follows was recorded when the page was made, on ${device}.` : 'Nothing was recorded when the page was made.';
  $('device').textContent = `${why} Training here needs WebGPU: a current Chrome, Edge, Safari or Firefox on a machine with a GPU. ${what}`;
  document.body.dataset.mode = 'replay';
  for (const node of document.querySelectorAll('.live')) node.hidden = true;
  for (const id of ['alpha', 'lr']) $(id).disabled = true;
  $('rates').hidden = true;
  for (const { card } of cards) card.disabled = true;
  $('loss-key').textContent = '';
  picked.result = null;
  source = new Replay();
  source.start();
  listen();
  draw();
}

async function main() {
  // Of a dataset that has one class, "normal" says less than its name.
  $('title').textContent = `What is normal: ${page.class === 'normal' ? page.dataset : page.class}`;
  $('made').textContent = `${page.dataset}, ${training.images} images to train on, ${test.count} to judge; written by gradcon ${page.version}.`;
  $('alpha').max = Math.max(0.3, 2 * training.alpha);
  $('alpha').value = training.alpha;
  $('lr').value = Math.log10(training.lr);
  rates();
  model.layers.forEach(({ name }, i) => {
    const key = document.createElement('span');
    key.textContent = name;
    key.style.setProperty('--s', `var(--s${i % 8})`);
    $('cosine-key').append(key);
  });
  if (old.length) $('loss-key').textContent = `; dashed: recorded on ${page.recorded.device}`;
  if (page.trained) {
    $('from').append(new Option('the trained model', 'trained'));
    $('from').value = 'trained';
  }
  $('from-label').hidden = !page.trained;
  for (const id of ['alpha', 'lr']) $(id).addEventListener('input', rates);
  $('run').addEventListener('click', () => then(state.running ? () => {} : train));
  $('step').addEventListener('click', () => then(() => source.advance()));
  $('over').addEventListener('click', () => then(() => source.start()));
  $('from').addEventListener('change', () => then(() => source.start()));
  try {
    const engine = await Engine.open(page.shaders);
    const gradcon = new Gradcon(engine, page, arrays);
    await gradcon.load();
    source = new Live(gradcon);
    rates();
    await source.start();
    const { vendor, architecture, description } = engine.info;
    const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'a GPU that has no name';
    $('device').textContent = engine.info.isFallbackAdapter
      ? `Runs on a program that stands in for a GPU (${name}), which takes its time.` : `Runs on this machine's GPU: ${name}.`;
    document.body.dataset.mode = 'live';
    for (const { card } of cards) card.disabled = false;
    listen();
    listenToCanvas();
    showPicked();
    draw();
  } catch (error) {
    replay(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
  }
}

main();
