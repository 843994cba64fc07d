/* The report's data, and the trees that are made from it.

   A source tree is what the tracer recorded: one node a path, values of the
   node itself.  A display tree is what is drawn: merged, maybe reversed,
   with the values of callees (reversed: of callers) added up, node 0 at the
   root, children sorted by value. */
'use strict';

const SMALL_FAMILY = 16;
const FIRST_ROOM = 1 << 12;
const MEASURES = {
  live: { title: 'Live', bytes: 'size', blocks: 'count' },
  peak: { title: 'Peak', bytes: 'peak_size', blocks: 'peak_count' },
  total: { title: 'Total', bytes: 'total_size', blocks: 'total_count' },
  garbage: { title: 'Garbage', bytes: 'garbage_size', blocks: 'garbage_count' },
  difference: { title: 'Difference', bytes: 'size', blocks: 'count', signed: true },
  held: { title: 'Held by' },
};

function loadModel(text, columns) {
  const raw = JSON.parse(text);
  const read = columnReader(raw.columns, columns);
  const model = {
    raw,
    strings: raw.strings,
    count: raw.count,
    parents: readParents(raw.count, read),
    frames: read('frames', raw.count, Int32Array),
    file: raw.frame_files, line: raw.frame_lines,
    functions: raw.frame_functions, first: raw.frame_first_lines,
    source: raw.frame_sources,
    module: raw.file_modules, category: raw.file_categories,
    fileNames: raw.files, shortNames: raw.short_files,
    values: name => read(name, raw.count),
    old: raw.compared ? name => read('old_' + name, raw.count) : null,
    types: raw.types && (() => readTypes(raw.types, read)),
    folded: new Map(),
    functionKeys: null,
  };
  model.frameCount = model.file.length;
  const ofFiles = kinds => Uint8Array.from(model.file, file => kinds[file]);
  model.kinds = { none: new Uint8Array(model.frameCount),
    imports: ofFiles(raw.file_imports), code: ofFiles(raw.file_code) };
  model.rest = { imports: model.frameCount - 2, code: model.frameCount - 1 };
  model.lineKeys = Int32Array.from({ length: model.frameCount }, (_, i) => i);
  return model;
}

/* Return a function that reads a column when it is first asked for: numbers of
   digits of five bits, the lowest first, each a character from '=' on; all but
   the last are greater by 32.  Columns that have only zeros are not there. */
function columnReader(lengths, text) {
  const bytes = new TextEncoder().encode(text);
  const places = new Map();
  let end = 0;
  for (const [name, length] of Object.entries(lengths)) {
    places.set(name, bytes.subarray(end, end += length));
  }
  const known = new Map();
  return (name, count, kind = Float64Array) => {
    if (!known.has(name)) {
      known.set(name, decode(places.get(name) || [], new kind(count)));
    }
    return known.get(name);
  };
}

function decode(digits, numbers) {
  let at = 0;
  let number = 0;
  let scale = 1;
  for (let i = 0; i < digits.length; i++) {
    const digit = digits[i] - 61;
    if (digit >= 32) {
      number += (digit - 32) * scale;
      scale *= 32;
    } else {
      numbers[at++] = number + digit * scale;
      number = 0;
      scale = 1;
    }
  }
  return numbers;
}

/* A column says how far before a node its parent is. */
function readParents(count, read) {
  const parents = read('callers', count, Int32Array);
  for (let node = 0; node < count; node++) {
    parents[node] = node - parents[node];
  }
  return parents;
}

/* Which types the live blocks of nodes have. */
function readTypes({ names, count }, read) {
  return { names, nodes: read('type_nodes', count, Int32Array), types: read('types', count, Int32Array),
    sizes: read('type_sizes', count), counts: read('type_counts', count) };
}

/* Frame -> smallest frame of the same function, when it is first asked for. */
function functionKeys(model) {
  if (!model.functionKeys) {
    model.functionKeys = keysOf(model, i =>
      model.file[i] + ' ' + model.functions[i] + ' ' + model.first[i]);
  }
  return model.functionKeys;
}

/* Frame -> smallest frame with the same name. */
function keysOf(model, name) {
  const seen = new Map();
  return Int32Array.from({ length: model.frameCount }, (_, frame) => {
    const text = name(frame);
    if (!seen.has(text)) {
      seen.set(text, frame);
    }
    return seen.get(text);
  });
}

function frameFile(model, frame) {
  return model.strings[model.fileNames[model.file[frame]]];
}

function frameFunction(model, frame) {
  return model.strings[model.functions[frame]];
}

function frameLabel(model, frame, merged) {
  return nameOf(model, frame, merged, frameFile(model, frame));
}

/* As boxes and rows have it: without the directories that many files share. */
function shortLabel(model, frame, merged) {
  return nameOf(model, frame, merged, model.strings[model.shortNames[model.file[frame]]]);
}

function nameOf(model, frame, merged, file) {
  const name = frameFunction(model, frame);
  // Where no Python frame is, there is no line either.
  const place = merged || !model.line[frame] ? file : file + ':' + model.line[frame];
  // Every module has one of this name: what tells them apart comes first.
  return name === '<module>' ? place + '  ' + name : name ? name + '  ' + place : place;
}

/* How a view folds: of each node the frame that its values are charged to,
   and whether that is of a caller. What is allocated in a frame that is folded
   is charged to the next caller that is not, or else to the place of the rest.
   Kinds are those of Traces._fold(): 1 is folded, 2 if it has a caller.
   `mixed`: nodes that may be shown with callees of another one. */
function foldedFrames(model, view) {
  if (!model.folded.has(view.fold)) {
    model.folded.set(view.fold, foldFrames(model, view));
  }
  return model.folded.get(view.fold);
}

function foldFrames(model, view) {
  const kinds = model.kinds[view.fold];
  const shown = model.frames.slice();
  const folded = new Uint8Array(model.count);
  const mixed = new Uint8Array(model.count);
  const visible = new Int32Array(model.count);
  let mixedRoot = 0;
  for (let node = 0; node < model.count; node++) {
    const parent = model.parents[node];
    const caller = parent >= 0 ? visible[parent] : -1;
    const kind = kinds[model.frames[node]];
    folded[node] = kind === 1 || (kind === 2 && parent >= 0);
    visible[node] = folded[node] ? caller : node;
    if (folded[node]) {
      shown[node] = caller >= 0 ? shown[caller] : model.rest[view.fold];
    }
    if (caller !== parent && caller >= 0) {
      mixed[caller] = 1;
    } else if (caller !== parent) {
      mixedRoot = 1;
    }
  }
  // Two of its callees may be one box, and so may theirs.
  for (let node = 0; node < model.count; node++) {
    const parent = model.parents[node];
    mixed[node] |= parent >= 0 ? mixed[parent] | folded[parent] : mixedRoot;
  }
  return { shown, folded, mixed, rest: model.rest[view.fold] };
}

function shownFrames(model, view) {
  return foldedFrames(model, view).shown;
}

/* Weights of the source nodes: {width, change}.  In a difference a node is
   as wide as the larger of its two values. */
function weightsOf(model, measure, unit) {
  const column = MEASURES[measure][unit];
  const now = model.values(column);
  if (!MEASURES[measure].signed) {
    return { width: now, change: null };
  }
  const before = model.old(column);
  return {
    width: now.map((value, node) => Math.max(value, before[node])),
    change: now.map((value, node) => value - before[node]),
  };
}

/* Frames that are folded have no nodes: what is theirs is their caller's.  No
   two callees of a source node have the same frame, so nodes are looked up only
   where callees are mixed, or a key is that of several frames. */
class TreeBuilder {
  constructor(keys, fold, expected, distinct) {
    this.keys = keys;
    this.fold = fold;
    this.distinct = distinct;
    this.count = 1;
    this.parent = Int32Array.of(-1);
    this.frame = Int32Array.of(-1);
    this.value = new Float64Array(1);
    this.own = new Float64Array(1);
    this.change = new Float64Array(1);
    this.makeRoom(expected);
  }

  makeRoom(count) {
    for (const name of ['parent', 'frame', 'value', 'own', 'change']) {
      const old = this[name];
      this[name] = new old.constructor(count);
      this[name].set(old);
    }
    // Open addressing: the node of a parent and a key, or 0.
    this.slots = new Int32Array(2 << Math.ceil(Math.log2(count)));
    for (let node = 1; node < this.count; node++) {
      this.slots[this.slot(this.parent[node], this.frame[node])] = node;
    }
  }

  child(parent, frame) {
    const key = this.keys[frame];
    const slot = this.slot(parent, key);
    if (this.slots[slot]) {
      return this.slots[slot];
    }
    this.slots[slot] = this.count;
    return this.append(parent, key);
  }

  append(parent, key) {
    const node = this.count++;
    this.parent[node] = parent;
    this.frame[node] = key;
    if (this.count === this.parent.length) {
      this.makeRoom(this.count * 4);
    }
    return node;
  }

  /* Where the child of a parent with a key is, or would be. */
  slot(parent, key) {
    const { slots } = this;
    const last = slots.length - 1;
    let at = Math.imul(Math.imul(parent, 0x9e3779b1) ^ key, 0x85ebca6b) >>> 7;
    for (at &= last; slots[at]; at = (at + 1) & last) {
      if (this.parent[slots[at]] === parent && this.frame[slots[at]] === key) {
        break;
      }
    }
    return at;
  }

  addForward(model, weights) {
    const { folded, mixed } = this.fold;
    const place = new Int32Array(model.count);
    for (let node = 0; node < model.count; node++) {
      const parent = model.parents[node];
      const caller = parent < 0 ? 0 : place[parent];
      const alone = this.distinct && parent >= 0 && !folded[parent] && !mixed[parent];
      place[node] = folded[node] ? caller
        : alone ? this.append(caller, model.frames[node]) : this.child(caller, model.frames[node]);
      // The rest is outermost, and calls nothing.
      const rest = place[node] === 0 && weights.width[node];
      const here = rest ? this.child(0, this.fold.rest) : place[node];
      this.own[here] += weights.width[node];
      if (weights.change) {
        this.change[here] += weights.change[node];
      }
    }
    this.value.set(this.own);
    addToCallers(this.value, this.parent, this.count);
    if (weights.change) {
      addToCallers(this.change, this.parent, this.count);
    }
  }

  /* From the allocating frames to their callers, a level at a time. Callers
     of less than a 20,000th of the whole are not followed further: they could
     not be seen, and there may be millions of them. */
  addReversed(model, weights) {
    const visible = node => {
      while (node >= 0 && this.fold.folded[node]) {
        node = model.parents[node];
      }
      return node;
    };
    const REST = model.count;
    const all = Array.from(weights.width.keys()).filter(node => weights.width[node] > 0);
    const least = sum(weights.width) / 20000;
    this.value[0] = sum(weights.width);
    this.change[0] = weights.change ? sum(weights.change) : 0;
    const first = all.map(visible).map(node => (node < 0 ? REST : node));
    const todo = [{ node: 0, at: first, origin: all }];
    while (todo.length) {
      const { node, at, origin } = todo.pop();
      const callers = new Map();
      at.forEach((here, i) => {
        if (here < 0) {
          return;
        }
        const child = this.child(node, here === REST ? this.fold.rest : model.frames[here]);
        this.addOrigin(child, weights, origin[i], node === 0);
        if (!callers.has(child)) {
          callers.set(child, { node: child, at: [], origin: [] });
        }
        callers.get(child).at.push(here === REST ? -1 : visible(model.parents[here]));
        callers.get(child).origin.push(origin[i]);
      });
      for (const entry of callers.values()) {
        if (this.value[entry.node] >= least) {
          todo.push(entry);
        }
      }
    }
  }

  addOrigin(node, weights, origin, own) {
    this.value[node] += weights.width[origin];
    this.change[node] += weights.change ? weights.change[origin] : 0;
    if (own) {
      this.own[node] += weights.width[origin];
    }
  }

  finish(signed) {
    const part = name => this[name].subarray(0, this.count);
    return displayTree({ parent: part('parent'), frame: part('frame'), value: part('value'),
      own: part('own'), change: signed ? part('change') : null });
  }
}

/* Add the values of nodes to those of their callers, which come before them. */
function addToCallers(values, parents, count) {
  for (let node = count - 1; node >= 0; node--) {
    if (parents[node] >= 0) {
      values[parents[node]] += values[node];
    }
  }
}

/* Parents come before their children, and are no less than all of them. */
function displayTree({ parent, frame, value, own, change }) {
  const count = parent.length;
  const tree = {
    count,
    parent,
    frame,
    value,
    own,
    change,
    start: new Float64Array(count),
    depth: new Int32Array(count),
    childStart: new Int32Array(count + 1),
    children: new Int32Array(Math.max(0, count - 1)),
    order: new Int32Array(count),
    levels: [0],
  };
  sortChildren(tree);
  layOut(tree);
  return tree;
}

function sortChildren(tree) {
  const { parent, childStart, children, value } = tree;
  for (let node = 1; node < tree.count; node++) {
    childStart[parent[node] + 1]++;
  }
  for (let node = 0; node < tree.count; node++) {
    childStart[node + 1] += childStart[node];
  }
  const next = childStart.slice();
  for (let node = 1; node < tree.count; node++) {
    children[next[parent[node]]++] = node;
  }
  for (let node = 0; node < tree.count; node++) {
    const first = childStart[node];
    const end = childStart[node + 1];
    if (end - first > SMALL_FAMILY) {
      children.subarray(first, end).sort((a, b) => value[b] - value[a] || a - b);
    } else {
      insertionSort(children, value, first, end);
    }
  }
}

/* Most families are small; those that are equal stay in order. */
function insertionSort(children, value, first, end) {
  for (let i = first + 1; i < end; i++) {
    const child = children[i];
    let at = i;
    for (; at > first && value[children[at - 1]] < value[child]; at--) {
      children[at] = children[at - 1];
    }
    children[at] = child;
  }
}

/* Place the boxes. `order` has those that have a value, a level after the
   other, each from left to right; a level begins at levels[depth] and ends
   where the next one begins. */
function layOut(tree) {
  const { order, levels, childStart, children, value, start, depth } = tree;
  let end = 1;
  for (let at = 0; at < end;) {
    const level = end;
    levels.push(level);
    for (; at < level; at++) {
      const node = order[at];
      let next = start[node];
      for (let i = childStart[node]; i < childStart[node + 1] && value[children[i]] > 0; i++) {
        const child = children[i];
        start[child] = next;
        depth[child] = depth[node] + 1;
        next += value[child];
        order[end++] = child;
      }
    }
  }
  tree.rows = levels.length - 1;
}

/* Place in `order` of the first box of a level that ends after a value. */
function firstAfter(tree, depth, value) {
  const { order, levels, start } = tree;
  let low = levels[depth];
  let high = levels[depth + 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (start[order[middle]] + tree.value[order[middle]] > value) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

function buildTree(model, view) {
  if (view.measure === 'held') {
    return holdersTree(model);
  }
  const weights = weightsOf(model, view.measure, view.unit);
  const builder = new TreeBuilder(view.merged ? functionKeys(model) : model.lineKeys,
    foldedFrames(model, view), view.reversed ? FIRST_ROOM : model.count + 3, !view.merged);
  if (view.reversed) {
    builder.addReversed(model, weights);
  } else {
    builder.addForward(model, weights);
  }
  return builder.finish(weights.change !== null);
}

function sum(values) {
  let total = 0;
  for (const value of values) {
    total += value;
  }
  return total;
}

function formatBytes(bytes, signed) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const sign = bytes < 0 ? '−' : signed && bytes > 0 ? '+' : '';
  return sign + value.toFixed(unit && value < 100 ? 1 : 0) + ' ' + units[unit];
}

function formatBlocks(blocks, signed) {
  const sign = blocks < 0 ? '−' : signed && blocks > 0 ? '+' : '';
  return sign + Math.abs(blocks).toLocaleString('en-US');
}

function formatValue(value, unit, signed) {
  return unit === 'bytes' ? formatBytes(value, signed)
    : formatBlocks(value, signed) + (Math.abs(value) === 1 ? ' block' : ' blocks');
}

function formatShare(value, total) {
  return (total ? 100 * value / total : 0).toFixed(1) + ' %';
}
