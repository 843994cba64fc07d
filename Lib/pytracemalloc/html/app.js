/* What ties the page together: the view's state, the controls, the details. */
'use strict';

const $ = id => document.getElementById(id);
const model = loadModel($('data').textContent, $('columns').textContent);
const view = Object.assign(
  { measure: 'live', unit: 'bytes', icicle: true, reversed: false, merged: false, fold: 'imports', by: 'line' },
  model.raw.view);
const graph = new Graph(model, $('graph'), $('scroller'), $('canvas-room'));
const table = new Table($('table'), $('table-head'), $('table-room'));
const trees = new Map();
const LONG_FIGURE = 40;
let markedRow = null;

function measures() {
  const known = { difference: model.old, held: model.raw.holders };
  return Object.keys(MEASURES).filter(name => !(name in known) || known[name]);
}

/* Who holds what has one shape; the table beside it is that of live memory. */
function isHeld() {
  return view.measure === 'held';
}

function tableView() {
  return isHeld() ? Object.assign({}, view, { measure: 'live', unit: 'bytes' }) : view;
}

/* A row of buttons of which one is chosen; arrows move the choice. */
function choices(id, options, chosen, choose) {
  const box = $(id);
  const names = Object.keys(options);
  box.replaceChildren(...names.map(name => {
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('role', 'radio');
    button.dataset.name = name;
    button.textContent = options[name];
    button.addEventListener('click', () => choose(name));
    return button;
  }));
  box.onkeydown = event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const at = names.indexOf(chosen());
      choose(names[(at + step + names.length) % names.length]);
      box.querySelector('[aria-checked=true]').focus();
    }
  };
  box.refresh = () => {
    for (const button of box.children) {
      const on = button.dataset.name === chosen();
      button.setAttribute('aria-checked', on);
      button.tabIndex = on ? 0 : -1;
    }
  };
  box.refresh();
}

function currentTree() {
  const key = [view.measure, view.unit, view.reversed, view.merged, view.fold].join();
  if (!trees.has(key)) {
    if (trees.size > 8) {
      trees.clear();
    }
    trees.set(key, buildTree(model, view));
  }
  return trees.get(key);
}

function showGraph() {
  const tree = currentTree();
  $('nothing').hidden = tree.value[0] > 0;
  $('canvas-room').hidden = tree.value[0] === 0;
  graph.show(tree, view.icicle, view.merged);
  for (const id of ['measures', 'units', 'shapes']) {
    $(id).refresh();
  }
  $('reversed').checked = view.reversed;
  $('by-function').checked = view.merged;
  $('unfold').checked = view.fold === 'none';
  $('my-code').checked = view.fold === 'code';
  $('units').hidden = isHeld();
  for (const id of ['reversed', 'by-function']) {
    $(id).parentElement.hidden = isHeld();
  }
  $('graph').setAttribute('aria-label', isHeld() ? 'Tree of holders' : 'Flame graph');
  showLegend(tree.change !== null);
  $('scale').textContent = scaleText(tree.change !== null);
  $('selected').textContent = isHeld() ? `Each box is as wide as what would be freed with it${tree.change ? ', before or after' : ''}; select one to see its line and what it holds.`
    : 'Select a box or a row to see its source line and types.';
  showSource(-1);
  showParts([]);
  if (markedRow) {
    markRow(markedRow);
  } else {
    search();
  }
}

/* What the width of a box says, and in which unit. */
function scaleText(signed) {
  const kind = MEASURES[view.measure].title.toLowerCase();
  const what = isHeld() ? 'bytes that would be freed with it'
    : `${signed ? 'live' : kind} ${view.unit}, with those of ${view.reversed ? 'its callers' : 'what it called'}`;
  return `Width of a box: ${what}${signed ? ', the larger of before and after' : ''}.`
    + (isHeld() || view.unit === 'bytes' ? ' 1\u00a0KiB is 1,024 bytes.' : '');
}

function showTable() {
  markedRow = null;
  table.show(groupRows(model, tableView(), view.by), columnsOf(model, tableView(), view.by), GROUPS[view.by]);
  $('keys').refresh();
  $('row-filter').value = '';
  countRows();
}

function countRows() {
  const all = table.all.length;
  const shown = table.printing ? Math.min(PRINTED_ROWS, table.rows.length) : table.rows.length;
  $('row-count').textContent = shown === all
    ? formatBlocks(all) + ' rows' : `${formatBlocks(shown)} of ${formatBlocks(all)} rows`;
}

function change(update) {
  Object.assign(view, update);
  showGraph();
  if ('measure' in update || 'unit' in update || 'fold' in update) {
    showTable();
  }
}

function showLegend(signed) {
  const used = new Set(model.category);
  const { dark } = graph.theme;
  const entries = signed ? [['+ grown', 0.8], ['− shrunk', -0.8], ['as before', 0]].map(([name, part]) => [name, changeColor(part, dark)])
    : CATEGORIES.map(([name, hue, saturation, light]) => [name, `hsl(${hue} ${saturation}% ${light + 3 - 3 * dark}%)`])
      .filter((_, i) => used.has(i));
  $('legend').replaceChildren(...entries.map(([name, color]) => {
    const entry = document.createElement('span');
    const patch = document.createElement('i');
    patch.style.backgroundColor = color;
    patch.classList.toggle('striped', name === '− shrunk');
    entry.append(patch, name);
    return entry;
  }));
}

/* Search */
function search() {
  const text = $('search').value.toLowerCase();
  markedRow = null;
  markBoxes(text ? isHeld() ? holdersWith(text) : framesWith(text) : null);
}

/* Mark the boxes that are wanted(node), and say how much of all they are. */
function markBoxes(wanted) {
  const found = graph.mark(wanted);
  $('matched').textContent = wanted
    ? `found ${formatShare(found, graph.tree.value[0])}, ${formatValue(found, isHeld() ? 'bytes' : view.unit)}` : '';
}

function holdersWith(text) {
  const { tree } = graph;
  const strings = new Map();
  return node => {
    const name = tree.names[node];
    if (!strings.has(name)) {
      strings.set(name, model.strings[name].toLowerCase().includes(text));
    }
    return strings.get(name);
  };
}

function framesWith(text) {
  const frames = new Uint8Array(model.frameCount);
  for (let frame = 0; frame < model.frameCount; frame++) {
    frames[frame] = frameLabel(model, frame, false).toLowerCase().includes(text);
  }
  if (view.merged) {
    // A function is found if one of its lines is.
    frames.forEach((found, frame) => {
      frames[functionKeys(model)[frame]] |= found;
    });
  }
  const { tree } = graph;
  return node => frames[tree.frame[node]];
}

/* Details of a box or a row */

/* A name in a script that runs from right to left turns nothing else around. */
function isolated(name) {
  const part = document.createElement('bdi');
  part.dir = 'ltr';
  part.textContent = name;
  return part;
}

function describeNode(node) {
  const { tree } = graph;
  if (isHeld()) {
    return describeHolder(model, tree, node);
  }
  const signed = tree.change !== null;
  const lines = [node === 0 ? 'all' : frameLabel(model, tree.frame[node], view.merged),
    `${formatValue(tree.value[node], view.unit)}, ${formatShare(tree.value[node], tree.value[0])} of all`];
  if (node > 0 && tree.parent[node] > 0) {
    lines[1] += `, ${formatShare(tree.value[node], tree.value[tree.parent[node]])} of the box before it`;
  }
  if (tree.own[node] && tree.own[node] !== tree.value[node]) {
    lines.push(`${formatValue(tree.own[node], view.unit)} by itself`);
  }
  if (signed) {
    lines.push(`${formatValue(tree.change[node], view.unit, true)} since the old snapshot`);
  }
  if (node > 0) {
    lines.push(CATEGORIES[model.category[model.file[tree.frame[node]]]][0].toLowerCase());
  }
  return lines;
}

function selectNode(node) {
  if (node < 0) {
    return;
  }
  const [name, ...figures] = describeNode(node);
  showSelected(name, figures.join(' — '));
  const frame = graph.tree.frame[node];
  if (markedRow) {
    search();
  }
  table.point(rowOf(frame));
  if (isHeld()) {
    showSource(frame);
    showParts(heldBy(model, graph.tree, node));
    return;
  }
  showSource(view.merged ? -1 : frame);
  showParts(frame < 0 ? [] : typesAt(key => key === frame, view.merged ? functionKeys(model) : model.lineKeys));
}

function showSelected(name, figures) {
  $('selected').replaceChildren(isolated(name), ' — ' + figures);
  reachable($('selected'));
}

/* What is too long for its place can be scrolled by keyboard. */
function reachable(element) {
  if (element.scrollHeight > element.clientHeight + 1) {
    element.tabIndex = 0;
  } else {
    element.removeAttribute('tabindex');
  }
}

/* Where the table has a frame, as it is sorted; -1: nowhere. */
function rowOf(frame) {
  if (frame < 0 || view.by === 'type') {
    return -1;
  }
  const { keys } = grouping(model, view.by);
  const boxes = view.merged && !isHeld() ? functionKeys(model) : model.lineKeys;
  const wanted = new Set(keys.filter((_, other) => boxes[other] === frame));
  return table.rows.findIndex(row => wanted.has(row.key));
}

function showSource(frame) {
  const text = frame < 0 ? -1 : model.source[frame];
  $('source').hidden = !(text >= 0);
  $('source').textContent = text >= 0 ? `${model.line[frame]}  ${model.strings[text]}` : '';
}

function sourceOf(node) {
  const frame = graph.tree.frame[node];
  const text = frame < 0 || (view.merged && !isHeld()) ? -1 : model.source[frame];
  return text >= 0 ? ['', model.strings[text]] : [];
}

/* *parts*: lists of what is before a name, the name, and what is after it. */
function showParts(parts) {
  $('parts').replaceChildren(...parts.slice(0, 12).map(([before, name, after]) => {
    const item = document.createElement('li');
    item.append(before, isolated(name), after);
    item.title = item.textContent;
    return item;
  }));
}

/* Types of the live blocks that were allocated where test(key of frame). */
function typesAt(test, keys) {
  if (!model.types) {
    return [];
  }
  const sums = new Map();
  const { names, nodes, types, sizes, counts } = model.types();
  const frames = shownFrames(model, view);
  nodes.forEach((node, i) => {
    if (test(keys[frames[node]])) {
      const at = sums.get(types[i]) || [0, 0];
      sums.set(types[i], [at[0] + sizes[i], at[1] + counts[i]]);
    }
  });
  return Array.from(sums).sort((a, b) => b[1][0] - a[1][0])
    .map(([type, [size, count]]) => ['', names[type], `: ${formatBytes(size)} live, ${formatValue(count, 'blocks')}`]);
}

function linesOfType(type) {
  const sums = new Map();
  const { nodes, types, sizes, counts } = model.types();
  const frames = shownFrames(model, view);
  nodes.forEach((node, i) => {
    if (types[i] === type) {
      const frame = frames[node];
      const at = sums.get(frame) || [0, 0];
      sums.set(frame, [at[0] + sizes[i], at[1] + counts[i]]);
    }
  });
  return Array.from(sums).sort((a, b) => b[1][0] - a[1][0])
    .map(([frame, [size, count]]) => [`${formatBytes(size)}, ${formatValue(count, 'blocks')}: `, shortLabel(model, frame, false), '']);
}

function selectRow(row) {
  const columns = columnsOf(model, tableView(), view.by);
  const values = columns.map((column, i) => `${column.title.toLowerCase()} ${column.show(row.values[i])}`);
  showSelected(row.label, values.join(', '));
  if (view.by === 'type') {
    showSource(-1);
    showParts(linesOfType(row.key));
  } else {
    showSource(view.by === 'line' ? row.key : -1);
    showParts(typesAt(key => key === row.key, grouping(model, view.by).keys));
  }
  $('search').value = '';
  markRow(row);
  graph.showMatch();
}

/* Mark the boxes that a row is made of; of a type: of the lines that have
   allocated it. */
function markRow(row) {
  markedRow = row;
  const keys = view.merged && !isHeld() ? functionKeys(model) : model.lineKeys;
  const wanted = new Set();
  for (const frame of framesOfRow(row)) {
    wanted.add(keys[frame]);
  }
  const { tree } = graph;
  markBoxes(node => wanted.has(tree.frame[node]));
}

function framesOfRow(row) {
  if (view.by === 'type') {
    const frames = shownFrames(model, view);
    const { nodes, types } = model.types();
    return nodes.filter((_, i) => types[i] === row.key).map(node => frames[node]);
  }
  const { keys } = grouping(model, view.by);
  return model.lineKeys.filter(frame => keys[frame] === row.key);
}

function openRow() {
  graph.selectMatch();
  graph.zoom(Math.max(0, graph.selected));
}

/* The box under the mouse */
function shorten(text) {
  return text.length > 300 ? text.slice(0, 120) + ' … ' + text.slice(-170) : text;
}

graph.onHover = (node, event) => {
  const tip = $('tip');
  tip.hidden = node < 0;
  if (node >= 0) {
    tip.textContent = [...describeNode(node), ...sourceOf(node)].map(shorten).join('\n');
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + 'px';
    tip.style.top = (event.clientY + 18 + height > innerHeight ? event.clientY - height - 8 : event.clientY + 18) + 'px';
  }
};

function toggleFold(fold) {
  change({ fold: view.fold === fold ? 'imports' : fold });
}

function zoomOut() {
  graph.zoom(0);
  if (markedRow) {
    search();
    table.point(-1);
  }
  $('graph').focus({ preventScroll: true });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme === 'dark' ? 'Light' : 'Dark';
  graph.resize();
  if (graph.tree) {
    showLegend(graph.tree.change !== null);
  }
}

function flipTheme() {
  setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
}

/* Paper is white, and does not scroll. */
let screenTheme = null;
addEventListener('beforeprint', () => {
  screenTheme = document.documentElement.dataset.theme;
  setTheme('light');
  table.print(true);
  countRows();
  graph.print(true);
});
addEventListener('afterprint', () => {
  table.print(false);
  countRows();
  graph.print(false);
  setTheme(screenTheme);
});

function toggleHelp() {
  const hidden = !$('help').hidden;
  $('help').hidden = hidden;
  $('help-button').setAttribute('aria-expanded', !hidden);
}

const SHORTCUTS = {
  '/': () => $('search').focus(),
  Escape: zoomOut, 0: zoomOut,
  r: () => isHeld() || change({ reversed: !view.reversed }),
  m: () => isHeld() || change({ merged: !view.merged }),
  f: () => toggleFold('none'),
  c: () => toggleFold('code'),
  i: () => change({ icicle: !view.icicle }),
  u: () => isHeld() || change({ unit: view.unit === 'bytes' ? 'blocks' : 'bytes' }),
  t: flipTheme,
  '?': toggleHelp,
};

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.target.tagName === 'INPUT' && event.target.type === 'search') {
    if (event.key === 'Enter' && event.target.id === 'search') {
      search();
      graph.selectMatch();
    } else if (event.key === 'Escape') {
      event.target.value = '';
      event.target.dispatchEvent(new Event('input'));
      event.target.blur();
    }
    return;
  }
  const number = measures()[Number(event.key) - 1];
  if (number) {
    change({ measure: number });
  } else if (Object.hasOwn(SHORTCUTS, event.key)) {
    event.preventDefault();
    SHORTCUTS[event.key]();
  }
});

/* Figures and metrics */
function showFigures() {
  $('figures').replaceChildren(...model.raw.figures.map(([name, value]) => {
    const box = document.createElement('div');
    const term = document.createElement('dt');
    const text = document.createElement('dd');
    term.textContent = name;
    text.textContent = value;
    box.classList.toggle('long', value.length > LONG_FIGURE);
    box.append(term, text);
    return box;
  }));
  $('metrics').replaceChildren(...model.raw.metrics.map(row => {
    const line = document.createElement('tr');
    line.append(...row.map((value, i) => {
      const cell = document.createElement(i ? 'td' : 'th');
      cell.textContent = value;
      return cell;
    }));
    return line;
  }));
  $('more').hidden = model.raw.metrics.length === 0;
}

function showHistory() {
  $('history').hidden = !model.raw.history;
  return model.raw.history && new History(model.raw.history, $('curve'), $('moment'),
    { top: $('curve-top'), end: $('curve-end') });
}

function showSeries() {
  $('series').hidden = !model.raw.series;
  return model.raw.series && new Stack(model.raw.series, $('stack'), $('band'), $('bands'),
    { top: $('stack-top'), end: $('stack-end'), numbers: $('numbers') });
}

function debounce(call) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, 120);
  };
}

graph.onSelect = selectNode;
graph.onZoom = node => {
  $('home').disabled = node === 0;
};
table.onSelect = selectRow;
table.onOpen = openRow;
choices('measures', Object.fromEntries(measures().map(name => [name, MEASURES[name].title])),
  () => view.measure, measure => change({ measure }));
choices('units', { bytes: 'Bytes', blocks: 'Blocks' }, () => view.unit, unit => change({ unit }));
choices('shapes', { icicle: 'Icicle', flame: 'Flame' },
  () => (view.icicle ? 'icicle' : 'flame'), shape => change({ icicle: shape === 'icicle' }));
choices('keys', model.types ? GROUPS : Object.fromEntries(Object.entries(GROUPS).filter(([by]) => by !== 'type')),
  () => view.by, by => {
    view.by = by;
    showTable();
  });
$('reversed').addEventListener('change', event => change({ reversed: event.target.checked }));
$('by-function').addEventListener('change', event => change({ merged: event.target.checked }));
$('unfold').addEventListener('change', () => toggleFold('none'));
$('my-code').addEventListener('change', () => toggleFold('code'));
$('search').addEventListener('input', debounce(search));
$('row-filter').addEventListener('input', debounce(() => {
  table.filter($('row-filter').value);
  countRows();
}));
$('home').addEventListener('click', zoomOut);
$('theme').addEventListener('click', flipTheme);
$('help-button').addEventListener('click', toggleHelp);
showFigures();
const history_ = showHistory();
const stack = showSeries();
setTheme(matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
showGraph();
showTable();
reachable($('title'));
