// The engine in a browser, on core WebGPU: no feature and no limit beyond the defaults.
//
// `Engine` runs plans, as src/engine/gpu/ does: it makes buffers, pipelines and bind groups once,
// and a step is then a list of "pipeline, bind group, dispatch". It knows nothing of what a plan is
// for. `Gradcon` is the host of the four plans of a page: what it writes, when it says "go" and what
// it reads back, as src/web/host.rs does.
'use strict';

const UNIFORM_BINDING = 7; // of a dispatch's words, behind its storage buffers
const UNIFORM_BYTES = 1280; // that each dispatch has in its plan's uniform buffer
const PADDING_IMAGE = 0xffffffff; // an index that is no image
const LANES = 16; // that images of a batch come in
const ELEMENT_BYTES = { float: 4, half: 2, u32: 4, u8: 1 };

class Engine {
  // Opens the default adapter; `shaders` are WGSL texts by name.
  static async open(shaders) {
    if (!navigator.gpu) throw new Error('this browser has no WebGPU');
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) throw new Error('this browser has WebGPU, but found no GPU that it can use');
    return new Engine(await adapter.requestDevice(), adapter.info, shaders);
  }

  constructor(device, info, shaders) {
    Object.assign(this, { device, info, shaders, failure: null });
    this.modules = new Map(); // by shader
    this.layouts = new Map(); // by shader and entry point
    this.pipelines = new Map(); // by shader, entry point and constants
    this.persistent = new Map(); // buffers by name, shared by all plans
    this.plans = new Map(); // dispatches ready to record, by plan
    device.addEventListener('uncapturederror', (event) => this.fail(event.error.message));
    device.lost.then((lost) => this.fail(`the GPU is gone: ${lost.message}`));
    this.step = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.stepLayout = device.createBindGroupLayout({ entries: [bound(0, 'uniform', 4)] });
    this.stepGroup = device.createBindGroup({
      layout: this.stepLayout, entries: [{ binding: 0, resource: { buffer: this.step } }],
    });
  }

  // The first failure counts; everything after it follows from it.
  fail(message) { this.failure ??= message; }
  check() { if (this.failure) throw new Error(this.failure); }

  // Allocates a plan's buffers and prepares its dispatches.
  async load(plan) {
    const { device } = this;
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('validation');
    const buffers = plan.buffers.map((buffer) => this.allocate(buffer, plan.replicas));
    const words = new Uint32Array(plan.dispatches.length * UNIFORM_BYTES / 4);
    plan.dispatches.forEach((d, i) => words.set(d.uniforms, i * UNIFORM_BYTES / 4));
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    const uniforms = device.createBuffer({ size: Math.max(words.byteLength, UNIFORM_BYTES), usage });
    device.queue.writeBuffer(uniforms, 0, words);
    const prepared = await Promise.all(plan.dispatches.map(async (dispatch, i) => {
      // To the end of the buffer: later replicas lie behind the view.
      const entries = dispatch.bindings.map(({ buffer, offset }, binding) => (
        { binding, resource: { buffer: buffers[buffer], offset } }));
      const resource = { buffer: uniforms, offset: i * UNIFORM_BYTES, size: UNIFORM_BYTES };
      entries.push({ binding: UNIFORM_BINDING, resource });
      const group = device.createBindGroup({ layout: this.layout(dispatch), entries });
      return { ...dispatch, group, pipeline: await this.pipeline(dispatch) };
    }));
    for (const scope of [device.popErrorScope(), device.popErrorScope()]) {
      const error = await scope;
      if (error) this.fail(`plan '${plan.name}': ${error.message}`);
    }
    this.check();
    this.plans.set(plan.name, prepared);
  }

  // All memory starts as zeros.
  allocate({ name, element, len, replicated, persistent }, replicas) {
    const bytes = ELEMENT_BYTES[element] * len * (replicated ? replicas : 1);
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    const known = persistent && this.persistent.get(name);
    if (known && known.size !== size) this.fail(`buffer '${name}' has two sizes`);
    if (known) return known;
    const host = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const usage = GPUBufferUsage.STORAGE | (persistent ? host : 0);
    const buffer = this.device.createBuffer({ label: name, size, usage });
    if (persistent) this.persistent.set(name, buffer);
    return buffer;
  }

  layout({ shader, entry_point, bindings }) {
    return once(this.layouts, `${shader} ${entry_point}`, () => {
      const storage = ({ read_only }, i) => bound(i, read_only ? 'read-only-storage' : 'storage');
      const entries = [...bindings.map(storage), bound(UNIFORM_BINDING, 'uniform', UNIFORM_BYTES)];
      return this.device.createBindGroupLayout({ entries });
    });
  }

  // A promise; pipelines compile side by side.
  pipeline({ shader, entry_point, constants, reads_step, bindings }) {
    const { device } = this;
    return once(this.pipelines, JSON.stringify([shader, entry_point, constants]), async () => {
      const module = once(this.modules, shader, () => (
        device.createShaderModule({ label: shader, code: this.shaders[shader] })));
      const groups = [this.layout({ shader, entry_point, bindings })];
      if (reads_step) groups.push(this.stepLayout);
      const layout = device.createPipelineLayout({ bindGroupLayouts: groups });
      const compute = { module, entryPoint: entry_point, constants };
      try {
        return await device.createComputePipelineAsync({ label: entry_point, layout, compute });
      } catch (error) {
        const { messages } = await module.getCompilationInfo();
        const said = messages.filter(({ type }) => type === 'error');
        const where = said.map((m) => `${shader}.wgsl:${m.lineNum}: ${m.message}`);
        throw new Error([`kernel ${entry_point}: ${error.message}`, ...where].join('\n'));
      }
    });
  }

  // Runs steps first, first + 1 ... last - 1 of a plan.
  run(name, first, last) {
    const { device } = this;
    this.check();
    for (let step = first; step < last; step++) {
      device.queue.writeBuffer(this.step, 0, new Uint32Array([step]));
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (const { pipeline, group, reads_step, grid } of this.plans.get(name)) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        if (reads_step) pass.setBindGroup(1, this.stepGroup);
        pass.dispatchWorkgroups(...grid);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
  }

  // Fills a persistent buffer with a typed array from its start.
  write(name, data) {
    const bytes = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.device.queue.writeBuffer(this.persistent.get(name), 0, bytes);
  }

  // The bytes of a persistent buffer, or of a part of it, when all that was asked for is done.
  async read(name, offset = 0, size = this.persistent.get(name).size - offset) {
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.device.createBuffer({ size, usage });
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.persistent.get(name), offset, staging, 0, size);
    this.device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(GPUMapMode.READ);
      return staging.getMappedRange().slice(0);
    } catch (error) {
      this.fail(error.message);
    } finally {
      staging.destroy();
    }
    this.check();
  }

  async floats(name, first = 0, count = this.persistent.get(name).size / 4 - first) {
    return new Float32Array(await this.read(name, 4 * first, 4 * count));
  }
}

function bound(binding, type, minBindingSize = 0) {
  return { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type, minBindingSize } };
}

function once(map, key, make) {
  if (!map.has(key)) map.set(key, make());
  return map.get(key);
}

// The order of `count` images in an epoch: a function of seed and epoch alone.
function order(count, seed, epoch) {
  let state = Math.imul(seed, 0x9e3779b1) ^ Math.imul(epoch + 1, 0x85ebca6b);
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return (bits ^ (bits >>> 14)) >>> 0;
  };
  const images = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random() % (i + 1);
    [images[i], images[j]] = [images[j], images[i]];
  }
  return images;
}

class Gradcon {
  // `page` is what src/web/page.rs wrote; `arrays` its images, decoded.
  constructor(engine, page, arrays) {
    Object.assign(this, { engine, page, arrays, alpha: page.training.alpha, lr: page.training.lr });
  }

  async load() {
    const { engine, page, arrays } = this;
    for (const plan of Object.values(page.plans)) await engine.load(plan);
    engine.write('train.data', arrays.train);
    engine.write('score.data', arrays.test);
    engine.write('gallery.data', this.shown());
    const tests = Array.from({ length: page.test.count }, (_, i) => i);
    this.feed('score', tests, page.test.batch, () => 1);
    this.feed('gallery', tests.slice(0, page.gallery), page.gallery, () => 1);
    this.feed('look', [0], 1, () => 1);
  }

  // The test images that the gallery shows: the first ones.
  shown() { return this.arrays.test.subarray(0, this.page.gallery * this.page.model.pixels); }

  // Which images make which batch, and how much each counts: [steps, n] and [steps, 4] (weight of an
  // image, Adam's two corrections, 1 / t of the running mean); [steps, 4] that noise is drawn from.
  feed(name, images, size, weight, done = 0, mean = 0) {
    const { engine, page: { training: { beta1, beta2, seed } } } = this;
    const steps = Math.ceil(images.length / size);
    const lanes = Math.ceil(size / LANES) * LANES;
    const indices = new Uint32Array(steps * lanes).fill(PADDING_IMAGE);
    const schedule = new Float32Array(steps * 4);
    const draws = new Uint32Array(steps * 4);
    for (let step = 0; step < steps; step++) {
      const batch = images.slice(step * size, (step + 1) * size);
      const t = done + step + 1;
      indices.set(batch, step * lanes);
      schedule.set([
        weight(batch.length), 1 / (1 - beta1 ** t), 1 / (1 - beta2 ** t), 1 / (mean + t),
      ], step * 4);
      draws.set([seed, 0, t, 0], step * 4);
    }
    engine.write(`${name}.indices`, indices);
    engine.write(`${name}.schedule`, schedule);
    if (engine.persistent.has(`${name}.draws`)) engine.write(`${name}.draws`, draws);
  }

  // Starts a training with these parameters and references, which are the mean of so many gradients.
  start(params, reference, mean) {
    const { engine } = this;
    engine.write('params', params);
    engine.write('reference', reference);
    for (const name of ['adam.m', 'adam.v']) engine.write(name, new Float32Array(params.length));
    Object.assign(this, { done: 0, mean });
    this.rates(this.alpha, this.lr);
  }

  // The weight of the constraint, which the device adds up from three numbers, and Adam's rate.
  rates(alpha, lr) {
    Object.assign(this, { alpha, lr });
    this.engine.write('alpha', new Float32Array([alpha, 0, 0]));
    this.engine.write('adam.lr', new Float32Array([lr]));
  }

  // Trains at most `count` steps, to the end of the epoch: for each its error and the cosines.
  async train(count) {
    const { engine, page: { training, model } } = this;
    const [epoch, step] = [Math.floor(this.done / training.steps), this.done % training.steps];
    if (step === 0) {
      const images = order(training.images, training.seed, epoch);
      this.feed('train', images, training.batch, (n) => 1 / n, this.done, this.mean);
    }
    const end = Math.min(step + count, training.steps);
    engine.run('train', step, end);
    const log = await engine.floats('train.log', step * training.width, (end - step) * training.width);
    this.done += end - step;
    return Array.from({ length: end - step }, (_, i) => {
      const row = log.subarray(i * training.width, (i + 1) * training.width);
      const cosines = model.layers.map((_, layer) => row[training.cosines + 4 * layer]);
      return { mse: row[0], constraint: row[training.constraint], cosines };
    });
  }

  // Whether an epoch has just ended.
  atEnd() { return this.done % this.page.training.steps === 0; }

  // Error and cosines of every test image.
  async scores() {
    const { engine, page: { test, model } } = this;
    const steps = Math.ceil(test.count / test.batch);
    engine.run('score', 0, steps);
    const log = await engine.floats('score.log', 0, steps * (1 + model.layers.length) * test.batch);
    return rows(log, test.count, test.batch, model.layers.length);
  }

  // Reconstructions of the gallery, [h, w, c, LANES].
  gallery() {
    this.engine.run('gallery', 0, 1);
    return this.engine.floats('gallery.reconstruction', 0, LANES * this.page.model.pixels);
  }

  // An image (bytes [h, w, c]): its reconstruction, its own gradients beside the references, and
  // their cosines.
  async look(image) {
    const { engine, page: { model } } = this;
    engine.write('look.data', image);
    engine.run('look', 0, 1);
    const [lanes, gradient, reference] = await Promise.all([
      engine.floats('look.reconstruction', 0, LANES * model.pixels),
      engine.floats('look.gradients', 0, model.reference),
      engine.floats('reference', 0, model.reference),
    ]);
    const reconstruction = lanes.filter((_, i) => i % LANES === 0);
    const square = (sum, value, i) => sum + (value - image[i] / 255) ** 2;
    const mse = reconstruction.reduce(square, 0) / model.pixels;
    const layers = model.layers.map(({ offset, len }) => {
      const [g, r] = [gradient, reference].map((all) => all.subarray(offset, offset + len));
      return { g, r, cos: dot(g, r) / (norm(g) * norm(r)) };
    });
    return { reconstruction, mse, layers, cosines: layers.map(({ cos }) => cos) };
  }
}

// A log [steps, 1 + layers, batch] as an object an image.
function rows(log, count, batch, layers) {
  return Array.from({ length: count }, (_, i) => {
    const at = (k) => log[(Math.floor(i / batch) * (1 + layers) + k) * batch + i % batch];
    return { mse: at(0), cosines: Array.from({ length: layers }, (_, k) => at(k + 1)) };
  });
}

function dot(a, b) { return a.reduce((sum, value, i) => sum + value * b[i], 0); }
function norm(a) { return Math.max(Math.sqrt(dot(a, a)), 1e-8); }
