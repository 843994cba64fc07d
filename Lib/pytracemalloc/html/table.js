/* The table: groups of the source tree, and a view on them that creates only
   the rows in sight. */
'use strict';

const GROUPS = {
  line: 'Line', function: 'Function', file: 'File', module: 'Module', type: 'Type',
};
const ROW_HEIGHT = 24;
const PRINTED_ROWS = 100;

/* Return {key of each frame, label of each key}. */
function grouping(model, by) {
  const frameKeys = {
    line: frame => frame,
    function: frame => functionKeys(model)[frame],
    file: frame => model.file[frame],
    module: frame => model.module[model.file[frame]],
  }[by];
  const labels = {
    line: key => shortLabel(model, key, false),
    function: key => shortLabel(model, key, true),
    file: key => model.strings[model.fileNames[key]],
    module: key => model.strings[key],
  }[by];
  return {
    keys: Int32Array.from({ length: model.frameCount }, (_, frame) => frameKeys(frame)),
    label: labels,
  };
}

/* What the objects of each key retain, as the report was folded when it was
   made; null: not known. */
function retainedOf(model, view, by) {
  const known = view.measure === 'live' && view.fold === model.raw.view.fold && model.raw.retained;
  return known ? known[by] || null : null;
}

/* A row of the table.  Its label is made when it is first asked for: few rows
   are in sight. */
class Row {
  constructor(key, values, name) {
    this.key = key;
    this.values = values;
    this.name = name;
    this.text = null;
  }

  get label() {
    if (this.text === null) {
      this.text = this.name(this.key);
    }
    return this.text;
  }
}

/* Return Rows with a value for each of columnsOf(). */
function groupRows(model, view, by) {
  const rows = by === 'type' ? typeRows(model) : frameRows(model, view, by);
  const retained = retainedOf(model, view, by);
  if (retained) {
    for (const row of rows) {
      row.values.push(retained[row.key] || 0);
    }
  }
  return rows;
}

function frameRows(model, view, by) {
  const { keys, label } = grouping(model, by);
  const fold = foldedFrames(model, view);
  const frames = fold.shown;
  const size = largest(keys) + 1;
  const { bytes, blocks, signed } = MEASURES[view.measure];
  const add = column => {
    const sums = new Float64Array(size);
    for (let node = 0; node < model.count; node++) {
      sums[keys[frames[node]]] += column[node];
    }
    return sums;
  };
  const columns = [add(model.values(bytes)), add(model.values(blocks))];
  if (signed) {
    columns.push(add(model.old(bytes)), add(model.old(blocks)));
  } else {
    columns.push(withCallees(model, fold, keys, size, model.values(MEASURES[view.measure][view.unit])));
  }
  const origins = view.fold === 'code' ? originsOf(model, fold, keys, size, model.values(bytes)) : [];
  const name = key => label(key) + (origins[key] >= 0 ? '  > ' + shortLabel(model, origins[key], false) : '');
  const rows = [];
  const [newBytes, newBlocks, third, oldBlocks] = columns;
  // There may be thousands: no function is called for each.
  for (let key = 0; key < size; key++) {
    const now = newBytes[key];
    const count = newBlocks[key];
    const other = third[key];
    if (signed && (now || count || other || oldBlocks[key])) {
      rows.push(new Row(key, [now - other, now, other, count - oldBlocks[key], count], name));
    } else if (!signed && (now || count || other)) {
      rows.push(new Row(key, [now, count, count ? now / count : 0, other], name));
    }
  }
  return rows;
}

function largest(keys) {
  let most = -1;
  for (let i = 0; i < keys.length; i++) {
    most = Math.max(most, keys[i]);
  }
  return most;
}

function typeRows(model) {
  const sums = new Map();
  const { names, nodes, types, sizes, counts } = model.types();
  nodes.forEach((_, i) => {
    const at = sums.get(types[i]) || [0, 0];
    at[0] += sizes[i];
    at[1] += counts[i];
    sums.set(types[i], at);
  });
  return Array.from(sums, ([key, [size, count]]) => new Row(key, [size, count, size / count], type => names[type]));
}

/* The frame that allocated most of what is charged to each key; -1: one of the
   key's own. */
function originsOf(model, { shown, folded }, keys, size, column) {
  const sums = new Map();
  for (let node = 0; node < model.count; node++) {
    const origin = folded[node] ? model.frames[node] : -1;
    const at = keys[shown[node]] * (model.frameCount + 1) + origin + 1;
    sums.set(at, (sums.get(at) || 0) + column[node]);
  }
  const most = new Float64Array(size);
  const origins = new Int32Array(size).fill(-1);
  for (const [at, sum] of sums) {
    const key = Math.floor(at / (model.frameCount + 1));
    if (sum > most[key]) {
      most[key] = sum;
      origins[key] = at % (model.frameCount + 1) - 1;
    }
  }
  return origins;
}

/* Sum over the subtrees of a key's outermost nodes: recursion counts once. */
function withCallees(model, { shown, rest }, keys, size, column) {
  const subtree = column.slice();
  addToCallers(subtree, model.parents, model.count);
  const sums = new Float64Array(size);
  const { first, next } = childLists(model);
  const active = new Int32Array(size);
  // Each node stands there to be entered, and then to be left.
  const todo = new Int32Array(2 * model.count);
  let end = 0;
  for (let root = first[model.count]; root >= 0; root = next[root]) {
    todo[end++] = root;
  }
  while (end) {
    const node = todo[--end];
    if (node < 0) {
      active[keys[shown[~node]]]--;
      continue;
    }
    const key = keys[shown[node]];
    if (shown[node] === rest) {
      sums[key] += column[node];
    } else {
      if (active[key]++ === 0) {
        sums[key] += subtree[node];
      }
      todo[end++] = ~node;
    }
    for (let child = first[node]; child >= 0; child = next[child]) {
      todo[end++] = child;
    }
  }
  return sums;
}

/* Linked lists of children; those of first[count] have no caller. */
function childLists(model) {
  const first = new Int32Array(model.count + 1).fill(-1);
  const next = new Int32Array(model.count).fill(-1);
  for (let node = model.count - 1; node >= 0; node--) {
    const parent = model.parents[node] < 0 ? model.count : model.parents[node];
    next[node] = first[parent];
    first[parent] = node;
  }
  return { first, next };
}

function columnsOf(model, view, by) {
  const columns = ownColumns(view, by);
  if (retainedOf(model, view, by)) {
    columns.push({ title: 'Retained', show: formatBytes });
  }
  return columns;
}

function ownColumns(view, by) {
  const bytes = (title, signed) => ({ title, show: value => formatBytes(Math.round(value), signed) });
  const blocks = (title, signed) => ({ title, show: value => formatBlocks(value, signed) });
  if (by === 'type') {
    return [bytes('Live bytes'), blocks('Blocks'), bytes('Average')];
  }
  if (MEASURES[view.measure].signed) {
    return [bytes('Change', true), bytes('New'), bytes('Old'),
      blocks('Blocks change', true), blocks('Blocks')];
  }
  return [bytes('Bytes'), blocks('Blocks'), bytes('Average'),
    view.unit === 'bytes' ? bytes('With callees') : blocks('With callees')];
}

/* The box scrolls and has the focus, its head stays at the top; which row is
   the active one is said by an attribute, as rows come and go. */
class Table {
  constructor(box, head, room) {
    this.box = box;
    this.head = head;
    this.room = room;
    this.onSelect = () => {};
    this.onOpen = () => {};
    this.rows = [];
    this.sort = { column: 0, down: true };
    this.printing = false;
    box.addEventListener('scroll', () => this.draw(), { passive: true });
    box.addEventListener('keydown', event => this.key(event));
    room.addEventListener('click', event => {
      const row = event.target.closest('[role=row]');
      if (row) {
        this.select(Number(row.dataset.at));
      }
    });
    room.addEventListener('dblclick', () => this.onOpen());
    new ResizeObserver(() => this.height === box.clientHeight || this.draw()).observe(box);
  }

  show(rows, columns, name) {
    this.all = rows;
    this.columns = columns;
    this.name = name;
    this.sort = { column: 0, down: true };
    this.selected = -1;
    this.filter('');
  }

  filter(text) {
    const wanted = text.toLowerCase();
    this.rows = wanted ? this.all.filter(row => row.label.toLowerCase().includes(wanted)) : this.all.slice();
    this.order();
    this.box.scrollTop = 0;
    this.drawHead();
    this.draw();
  }

  order() {
    const { column, down } = this.sort;
    const sign = down ? -1 : 1;
    if (column === this.columns.length) {
      this.rows.sort((a, b) => -sign * (a.label < b.label ? -1 : a.label > b.label ? 1 : 0));
    } else {
      this.rows.sort((a, b) => sign * (a.values[column] - b.values[column]) || a.key - b.key);
    }
    this.selected = -1;
  }

  drawHead() {
    const widths = this.columns.map(() => 'minmax(90px, 132px)').join(' ');
    this.box.style.setProperty('--columns', widths + ' minmax(min(36%, 360px), 1fr)');
    const titles = [...this.columns.map(column => column.title), this.name];
    this.head.replaceChildren(...titles.map((title, column) => {
      const cell = document.createElement('div');
      const button = document.createElement('button');
      const here = this.sort.column === column;
      cell.setAttribute('role', 'columnheader');
      cell.setAttribute('aria-sort', !here ? 'none' : this.sort.down ? 'descending' : 'ascending');
      button.type = 'button';
      button.textContent = title + (!here ? '' : this.sort.down ? ' ▾' : ' ▴');
      button.addEventListener('click', () => this.sortBy(column));
      cell.append(button);
      return cell;
    }));
  }

  sortBy(column) {
    this.sort = { column, down: this.sort.column === column ? !this.sort.down : true };
    this.order();
    this.drawHead();
    this.draw();
    this.head.children[column].firstChild.focus();
  }

  draw() {
    const count = this.rows.length;
    this.height = this.box.clientHeight;
    const first = this.printing ? 0 : Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(count, this.printing ? PRINTED_ROWS
      : first + Math.ceil(this.height / ROW_HEIGHT) + 8);
    this.room.style.height = count * ROW_HEIGHT + 'px';
    const shown = [];
    for (let at = first; at < last; at++) {
      shown.push(this.row(at));
    }
    this.room.replaceChildren(...shown);
    this.room.setAttribute('role', count ? 'rowgroup' : 'presentation');
    this.box.setAttribute('aria-rowcount', count + 1);
    if (first <= this.selected && this.selected < last) {
      this.box.setAttribute('aria-activedescendant', 'row-' + this.selected);
    } else {
      this.box.removeAttribute('aria-activedescendant');
    }
  }

  /* All that fits on some sheets, and back. */
  print(printing) {
    this.printing = printing;
    this.draw();
  }

  row(at) {
    const row = document.createElement('div');
    const { values, label } = this.rows[at];
    row.setAttribute('role', 'row');
    row.setAttribute('aria-rowindex', at + 2);
    row.setAttribute('aria-selected', at === this.selected);
    row.id = 'row-' + at;
    row.dataset.at = at;
    row.style.top = at * ROW_HEIGHT + 'px';
    this.columns.forEach((column, i) => row.append(this.cell(column.show(values[i]))));
    row.append(this.labelCell(label));
    return row;
  }

  /* A name, then what is less important. */
  labelCell(label) {
    const cell = this.cell('');
    const [name, ...rest] = label.split('  ');
    const place = document.createElement('i');
    place.textContent = rest.length ? '  ' + rest.join('  ') : '';
    cell.title = label;
    cell.append(isolated(name), place);
    return cell;
  }

  cell(text) {
    const cell = document.createElement('div');
    cell.setAttribute('role', 'gridcell');
    cell.textContent = text;
    return cell;
  }

  /* Of the window, what rows have. */
  roomHeight() {
    return this.box.clientHeight - this.head.offsetHeight;
  }

  /* Go to a row without telling anyone; -1: to none. */
  point(at) {
    this.selected = at;
    const top = at * ROW_HEIGHT;
    const least = top + ROW_HEIGHT - this.roomHeight();
    if (at >= 0 && (top < this.box.scrollTop || least > this.box.scrollTop)) {
      // Its neighbours say where it is.
      this.box.scrollTop = top < this.box.scrollTop ? top - ROW_HEIGHT : least + ROW_HEIGHT;
    }
    this.draw();
  }

  select(at) {
    this.point(at);
    this.onSelect(this.rows[at]);
  }

  key(event) {
    if (event.target !== this.box) {
      return;
    }
    const page = Math.max(1, Math.floor(this.roomHeight() / ROW_HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page,
      Home: -Infinity, End: Infinity };
    if (event.key in steps && this.rows.length) {
      event.preventDefault();
      const to = Math.min(this.rows.length - 1, Math.max(0, this.selected + steps[event.key]));
      this.select(to);
    } else if (event.key === 'Enter' && this.selected >= 0) {
      this.onOpen();
    }
  }
}
