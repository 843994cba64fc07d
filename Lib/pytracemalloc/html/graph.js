/* The flame graph: a canvas as high as the window shows, that draws the rows
   of the display tree which are in view.  Boxes narrower than a third of a
   pixel are left out together with what is on them, so that the work follows
   the pixels and not the number of nodes. */
'use strict';

const ROW = 19;
const LEAST = 0.34;
const LEAST_CHANGE = 0.0005;
const FONT = '12px system-ui, sans-serif';

/* Hue, saturation, lightness.  Whoever does not see red and green, or blue,
   can tell them apart, too: test_report_access.py looks at them so. */
const CATEGORIES = [
  ['The program', 24, 90, 60], ['Installed packages', 56, 80, 80],
  ['Standard library', 222, 80, 64], ['Interpreter', 0, 0, 70],
  ['Native code', 192, 80, 80],
];
const NATIVE = 4;
const PAPER = { width: 720, rows: 48, ratio: 3 };

class Graph {
  constructor(model, canvas, scroller, room) {
    this.model = model;
    this.canvas = canvas;
    this.scroller = scroller;
    this.room = room;
    this.context = canvas.getContext('2d');
    this.tree = null;
    this.zoomed = 0;
    this.selected = -1;
    this.hovered = -1;
    this.icicle = true;
    this.matches = null;
    this.waiting = false;
    this.paper = null;
    this.onSelect = () => {};
    this.onZoom = () => {};
    this.onHover = () => {};
    this.charWidths = new Map();
    // It also says how large things are in the first place.
    new ResizeObserver(() => this.width === scroller.clientWidth && this.height === scroller.clientHeight
      || this.resize()).observe(scroller);
    scroller.addEventListener('scroll', () => this.redraw(), { passive: true });
    // A finger has no place to rest: what it touches is selected.
    canvas.addEventListener('pointermove', event => event.pointerType === 'touch' || this.hover(event));
    canvas.addEventListener('pointerleave', () => this.point(-1));
    canvas.addEventListener('click', event => this.click(event));
    canvas.addEventListener('keydown', event => this.key(event));
  }

  show(tree, icicle, merged) {
    this.tree = tree;
    this.icicle = icicle;
    this.merged = merged;
    this.zoomed = 0;
    this.selected = -1;
    this.hovered = -1;
    this.matches = null;
    // As high as what can be read needs: a shallow graph leaves room for the
    // table, a narrow tower is there when one scrolls.
    const rows = Math.max(10, readableRows(tree) + 2);
    if (!this.height || rows > this.wanted) {
      this.wanted = rows;
      this.scroller.style.height = `min(52vh, ${rows * ROW}px)`;
    }
    this.resize();
    this.scroller.scrollTop = icicle ? 0 : this.scroller.scrollHeight;
    this.onZoom(0);
  }

  resize() {
    if (!this.tree) {
      return;
    }
    const ratio = this.paper ? this.paper.ratio : window.devicePixelRatio || 1;
    const width = this.paper ? this.paper.width : this.scroller.clientWidth;
    const rows = this.tree.rows * ROW;
    this.height = this.paper ? Math.min(rows, this.paper.rows * ROW) : this.scroller.clientHeight;
    this.width = width;
    this.room.style.height = Math.max(rows, this.height) + 'px';
    this.canvas.style.width = width + 'px';
    this.canvas.style.height = this.height + 'px';
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.readTheme();
    this.redraw();
  }

  /* As wide as paper and as high as a sheet has room for, and back. */
  print(printing) {
    this.paper = printing ? PAPER : null;
    this.resize();
    if (printing) {
      this.draw();
    }
  }

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    const color = name => style.getPropertyValue(name).trim();
    this.theme = {
      dark: document.documentElement.dataset.theme === 'dark',
      back: color('--back'), weak: color('--weak'), text: color('--box-text'),
      plain: color('--text'), mark: color('--mark'), accent: color('--accent'), dim: Number(color('--dim')),
    };
    this.colors = new Map();
    this.stripes = this.context.createPattern(stripes(), 'repeat');
  }

  redraw() {
    if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.draw();
      });
    }
  }

  /* Of a row, from the top of what is in view. */
  top(depth, scrolled = this.scroller.scrollTop) {
    const base = Math.max(this.tree.rows * ROW, this.height);
    return (this.icicle ? depth * ROW : base - (depth + 1) * ROW) - scrolled;
  }

  draw() {
    const { context, tree } = this;
    // To ask for it takes a while, for each row and box.
    this.scrolled = this.scroller.scrollTop;
    context.fillStyle = this.theme.back;
    context.fillRect(0, 0, this.width, this.height);
    context.font = FONT;
    context.textBaseline = 'middle';
    this.boxes = 0;
    if (tree.value[0] === 0) {
      return;
    }
    let node = this.zoomed;
    while (node >= 0) {
      this.box(node, 0, this.width, node === this.zoomed ? 1 : this.theme.dim);
      node = tree.parent[node];
    }
    for (let depth = tree.depth[this.zoomed] + 1; depth < tree.rows; depth++) {
      if (this.inView(this.top(depth, this.scrolled))) {
        this.row(depth);
      }
    }
  }

  inView(y) {
    return y > -ROW && y < this.height;
  }

  row(depth) {
    const { tree } = this;
    const scale = this.width / tree.value[this.zoomed];
    const origin = tree.start[this.zoomed];
    const end = origin + tree.value[this.zoomed];
    for (let at = firstAfter(tree, depth, origin); at < tree.levels[depth + 1]; at++) {
      const node = tree.order[at];
      if (tree.start[node] >= end) {
        return;
      }
      const width = tree.value[node] * scale;
      if (width >= LEAST) {
        this.box(node, (tree.start[node] - origin) * scale, width, 1);
      } else {
        at = this.rest(at, scale, origin);
      }
    }
  }

  /* The callees of a box that are too narrow to draw, as one pale box; they
     come last.  Return the place of the last. */
  rest(at, scale, origin) {
    const { tree, context } = this;
    const node = tree.order[at];
    const parent = tree.parent[node];
    const from = at;
    while (at + 1 < tree.levels[tree.depth[node] + 1] && tree.parent[tree.order[at + 1]] === parent) {
      at++;
    }
    const last = tree.order[at];
    const x = (tree.start[node] - origin) * scale;
    const width = (tree.start[last] + tree.value[last] - tree.start[node]) * scale;
    if (width < 2) {
      return at;
    }
    const y = this.top(tree.depth[node], this.scrolled);
    context.globalAlpha = 0.35;
    context.fillStyle = frameColor(this.model, -1, this.theme.dark);
    context.fillRect(x, y, width - 1, ROW - 1);
    context.globalAlpha = 1;
    if (width > 60) {
      context.fillStyle = this.theme.weak;
      context.fillText(this.fit(`${formatBlocks(at + 1 - from)} smaller`, width - 8),
        x + 4, y + ROW / 2);
    }
    return at;
  }

  box(node, x, width, alpha) {
    const y = this.top(this.tree.depth[node], this.scrolled);
    if (!this.inView(y)) {
      return;
    }
    const { context, matches } = this;
    const found = matches && matches[node];
    // Beside what is marked all else is pale.
    const pale = alpha < 1 || (matches && !found);
    this.boxes++;
    context.globalAlpha = pale ? this.theme.dim : 1;
    context.fillStyle = found ? this.theme.mark : this.color(node);
    context.fillRect(x, y, width > 2 ? width - 1 : width, ROW - 1);
    if (this.changed(node) < 0) {
      context.fillStyle = this.stripes;
      context.fillRect(x, y, width > 2 ? width - 1 : width, ROW - 1);
    }
    context.globalAlpha = 1;
    if (width > 24) {
      context.fillStyle = pale ? this.theme.plain : this.theme.text;
      const text = this.fit(this.label(node), width - 8);
      context.font = this.isNative(node) ? `italic ${FONT}` : FONT;
      context.fillText(text, x + 4, y + ROW / 2);
      context.font = FONT;
    }
    if (node === this.selected || node === this.hovered) {
      context.strokeStyle = node === this.selected ? this.theme.accent : this.theme.text;
      context.lineWidth = node === this.selected ? 2 : 1;
      context.strokeRect(x + 1, y + 1, Math.max(1, width - 3), ROW - 3);
    }
  }

  isNative(node) {
    const frame = this.tree.frame[node];
    return frame >= 0 && this.model.category[this.model.file[frame]] === NATIVE;
  }

  /* In a comparison with the sign of what has become of it. */
  label(node) {
    const part = this.changed(node);
    return (part > 0 ? '+ ' : part < 0 ? '− ' : '') + this.name(node);
  }

  /* Which part of a box is new, or less than 0: is gone. */
  changed(node) {
    const { change, value } = this.tree;
    const part = change ? change[node] / (value[node] || 1) : 0;
    return Math.abs(part) < LEAST_CHANGE ? 0 : part;
  }

  name(node) {
    const { model, tree } = this;
    if (tree.names) {
      return node === 0 ? 'everything' : holderName(model, tree, node);
    }
    return node === 0 ? 'all' : shortLabel(model, tree.frame[node], this.merged);
  }

  /* Cut by adding up the widths of characters, measured once each. */
  fit(text, room) {
    const dots = this.charWidth('…');
    let width = 0;
    let kept = 0;
    for (let i = 0; i < text.length; i++) {
      width += this.charWidth(text[i]);
      if (width + dots <= room) {
        kept = i + 1;
      } else if (width > room) {
        return kept > 1 ? text.slice(0, kept) + '…' : '';
      }
    }
    return text;
  }

  charWidth(char) {
    let size = this.charWidths.get(char);
    if (size === undefined) {
      size = this.context.measureText(char).width;
      this.charWidths.set(char, size);
    }
    return size;
  }

  color(node) {
    const { tree } = this;
    if (tree.change) {
      return changeColor(this.changed(node), this.theme.dark);
    }
    const frame = tree.frame[node];
    let color = this.colors.get(frame);
    if (color === undefined) {
      color = frameColor(this.model, frame, this.theme.dark);
      this.colors.set(frame, color);
    }
    return color;
  }

  nodeAt(event) {
    const { tree } = this;
    const area = this.canvas.getBoundingClientRect();
    const x = event.clientX - area.left;
    const y = event.clientY - area.top;
    const base = Math.max(tree.rows * ROW, this.height);
    const high = y + this.scroller.scrollTop;
    const depth = Math.floor((this.icicle ? high : base - high) / ROW);
    if (tree.value[0] === 0 || depth < 0 || depth >= tree.rows) {
      return -1;
    }
    if (depth <= tree.depth[this.zoomed]) {
      let node = this.zoomed;
      while (tree.depth[node] > depth) {
        node = tree.parent[node];
      }
      return node;
    }
    const value = tree.start[this.zoomed] + x / this.width * tree.value[this.zoomed];
    const at = firstAfter(tree, depth, value);
    return at < tree.levels[depth + 1] && tree.start[tree.order[at]] <= value ? tree.order[at] : -1;
  }

  hover(event) {
    this.point(this.tree ? this.nodeAt(event) : -1, event);
  }

  point(node, event) {
    if (node !== this.hovered) {
      this.hovered = node;
      this.redraw();
    }
    this.onHover(node, event);
  }

  click(event) {
    const node = this.nodeAt(event);
    if (node >= 0) {
      this.select(node);
      this.zoom(node);
    }
  }

  select(node) {
    this.selected = node;
    this.onSelect(node);
    this.redraw();
  }

  zoom(node) {
    this.zoomed = node;
    this.onZoom(node);
    this.redraw();
  }

  /* Move to the caller, a callee, the box before or after on the same caller. */
  key(event) {
    const { tree } = this;
    const at = this.selected < 0 ? this.zoomed : this.selected;
    const outward = this.icicle ? 'ArrowUp' : 'ArrowDown';
    const inward = this.icicle ? 'ArrowDown' : 'ArrowUp';
    let to = -1;
    if (event.key === outward) {
      to = tree.parent[at];
    } else if (event.key === inward) {
      to = tree.childStart[at] < tree.childStart[at + 1] ? tree.children[tree.childStart[at]] : -1;
    } else if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
      to = this.sibling(at, event.key === 'ArrowRight' ? 1 : -1);
    } else if (event.key === 'Enter') {
      this.zoom(at);
    } else {
      return;
    }
    event.preventDefault();
    if (to >= 0 && tree.value[to] > 0) {
      this.select(to);
      if (tree.depth[to] < tree.depth[this.zoomed]) {
        this.zoom(to);
      }
      this.reveal(to);
    }
  }

  sibling(node, step) {
    const { tree } = this;
    const parent = tree.parent[node];
    if (parent < 0) {
      return -1;
    }
    const family = tree.children.subarray(tree.childStart[parent], tree.childStart[parent + 1]);
    const to = family.indexOf(node) + step;
    return to >= 0 && to < family.length ? family[to] : -1;
  }

  reveal(node) {
    const y = this.top(this.tree.depth[node]);
    if (y < 0) {
      this.scroller.scrollTop += y;
    } else if (y + ROW > this.height) {
      this.scroller.scrollTop += y + ROW - this.height;
    }
  }

  /* The widest marked box; -1: there is none. */
  widestMatch() {
    const { tree, matches } = this;
    let widest = -1;
    for (let node = 1; matches && node < tree.count; node++) {
      if (matches[node] && (widest < 0 || tree.value[node] > tree.value[widest])) {
        widest = node;
      }
    }
    return widest;
  }

  isInZoomed(node) {
    while (this.tree.depth[node] > this.tree.depth[this.zoomed]) {
      node = this.tree.parent[node];
    }
    return node === this.zoomed;
  }

  showMatch() {
    const widest = this.widestMatch();
    if (widest >= 0) {
      if (!this.isInZoomed(widest)) {
        this.zoom(0);
      }
      this.reveal(widest);
    }
  }

  /* Select the widest marked box. */
  selectMatch() {
    const widest = this.widestMatch();
    if (widest >= 0) {
      this.zoom(0);
      this.select(widest);
      this.reveal(widest);
      this.canvas.focus({ preventScroll: true });
    }
  }

  /* Mark the boxes that are found(node); return their part of the whole, each
     box within a marked one counted once. */
  mark(found) {
    const { tree } = this;
    if (!found) {
      this.matches = null;
      this.redraw();
      return 0;
    }
    this.matches = new Uint8Array(tree.count);
    const inside = new Uint8Array(tree.count);
    let part = 0;
    for (let node = 1; node < tree.count; node++) {
      this.matches[node] = found(node);
      inside[node] = this.matches[node] || inside[tree.parent[node]];
      if (this.matches[node] && !inside[tree.parent[node]]) {
        part += tree.value[node];
      }
    }
    this.redraw();
    return part;
  }
}

/* Rows that have a box of some width. */
function readableRows(tree) {
  let rows = 0;
  for (let node = 0; node < tree.count; node++) {
    if (tree.value[node] * 300 > tree.value[0]) {
      rows = Math.max(rows, tree.depth[node] + 1);
    }
  }
  return rows;
}

function frameColor(model, frame, dark) {
  if (frame < 0) {
    return dark ? '#8b919c' : '#c9cdd4';
  }
  const [, hue, saturation, light] = CATEGORIES[model.category[model.file[frame]]];
  let seed = model.functions[frame] * 2654435761 + model.file[frame] * 40503;
  seed = (seed >>> 0) % 997;
  return `hsl(${hue - 5 + seed % 11} ${saturation}% ${light - 3 * dark + seed % 7}%)`;
}

/* What lies over a box that has shrunk. */
function stripes() {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 8;
  const context = canvas.getContext('2d');
  context.strokeStyle = 'rgb(255 255 255 / .55)';
  context.lineWidth = 2;
  for (const x of [-4, 4]) {
    context.moveTo(x - 2, 10);
    context.lineTo(x + 10, -2);
  }
  context.stroke();
  return canvas;
}

/* From -1 (all gone: blue) through grey to 1 (all new: red). */
function changeColor(part, dark) {
  const strength = Math.min(1, Math.abs(part));
  if (!strength) {
    return dark ? '#8b919c' : '#d4d7dc';
  }
  const light = (dark ? 80 : 88) - 24 * strength;
  return part > 0 ? `hsl(6 ${40 + 50 * strength}% ${light}%)`
    : `hsl(214 ${40 + 50 * strength}% ${light}%)`;
}
