/* Memory over time: a curve, and a cursor on it that the mouse and the arrow
   keys move from note to note. */
'use strict';

const CURVE_WIDTH = 1000;
const CURVE_HEIGHT = 100;

function svgPart(name, attributes, parent) {
  const part = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) {
    part.setAttribute(key, value);
  }
  parent?.append(part);
  return part;
}

function formatSeconds(seconds) {
  if (seconds < 60) {
    return `${seconds.toFixed(1)} s`;
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.floor(seconds % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

class History {
  constructor(notes, svg, said, labels) {
    this.notes = notes;
    this.svg = svg;
    this.said = said;
    this.count = notes.time.length;
    this.begin = notes.time[0];
    this.span = notes.time[this.count - 1] - this.begin;
    const values = notes.highest_traced.concat(notes.highest_resident);
    this.top = values.reduce((top, value) => Math.max(top, value || 0), 1);
    this.peak = notes.highest_traced.reduce(
      (best, value, i, all) => (value > all[best] ? i : best), 0);
    labels.top.textContent = formatBytes(this.top);
    labels.end.textContent = formatSeconds(this.span);
    this.draw();
    svg.setAttribute('aria-valuemin', 0);
    svg.setAttribute('aria-valuemax', this.count - 1);
    this.moveTo(this.count - 1, false);
    svg.addEventListener('pointermove', event => this.moveTo(this.noteAt(event.clientX)));
    svg.addEventListener('pointerdown', event => this.moveTo(this.noteAt(event.clientX)));
    svg.addEventListener('keydown', event => this.obey(event));
    svg.addEventListener('focus', () => this.moveTo(this.at));
  }

  x(i) {
    return (this.notes.time[i] - this.begin) / this.span * CURVE_WIDTH;
  }

  y(value) {
    return CURVE_HEIGHT - (value || 0) / this.top * CURVE_HEIGHT;
  }

  /* A value holds from the note before until its own. */
  path(values) {
    let path = `M0 ${this.y(values[0]).toFixed(2)}`;
    for (let i = 1; i < this.count; i++) {
      path += `L${this.x(i).toFixed(2)} ${this.y(values[i]).toFixed(2)}`;
    }
    return path;
  }

  draw() {
    const { notes, svg } = this;
    svg.setAttribute('viewBox', `0 0 ${CURVE_WIDTH} ${CURVE_HEIGHT}`);
    const traced = this.path(notes.highest_traced);
    const parts = [
      svgPart('path', { class: 'area', d: `${traced}V${CURVE_HEIGHT}H0Z` }),
      svgPart('path', { class: 'traced', d: traced }),
    ];
    if (notes.resident.some(value => value !== null)) {
      parts.push(svgPart('path', { class: 'resident', d: this.path(notes.highest_resident) }));
    }
    notes.snapshots.forEach((number, i) => {
      if (number) {
        parts.push(svgPart('line', { class: 'taken', x1: this.x(i), x2: this.x(i), y1: 0, y2: CURVE_HEIGHT }));
      }
    });
    const x = this.x(this.peak);
    const y = this.y(notes.highest_traced[this.peak]);
    // A line of no length with round ends is a dot, however wide the curve.
    parts.push(svgPart('line', { class: 'peak', x1: x, x2: x, y1: y, y2: y }));
    this.cursor = svgPart('line', { class: 'cursor', y1: 0, y2: CURVE_HEIGHT });
    svg.replaceChildren(...parts, this.cursor);
  }

  noteAt(clientX) {
    const { left, width } = this.svg.getBoundingClientRect();
    const time = this.begin + (clientX - left) / width * this.span;
    const { time: times } = this.notes;
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : low;
  }

  moveTo(i, show = true) {
    this.at = Math.max(0, Math.min(this.count - 1, i));
    this.svg.classList.toggle('pointed', show);
    this.cursor.setAttribute('x1', this.x(this.at));
    this.cursor.setAttribute('x2', this.x(this.at));
    this.said.textContent = this.describe(this.at);
    this.svg.setAttribute('aria-valuenow', this.at);
    this.svg.setAttribute('aria-valuetext', this.said.textContent);
  }

  describe(i) {
    const { notes } = this;
    const clock = new Date(notes.time[i] * 1000).toLocaleTimeString('en-GB');
    const most = (value, highest) => (highest > value ? ` (up to ${formatBytes(highest)})` : '');
    const parts = [`${formatSeconds(notes.time[i] - this.begin)}, ${clock}`,
      `traced ${formatBytes(notes.traced[i])}${most(notes.traced[i], notes.highest_traced[i])}`];
    if (notes.resident[i] !== null) {
      parts.push(`resident ${formatBytes(notes.resident[i])}${most(notes.resident[i], notes.highest_resident[i])}`);
    }
    parts.push(formatValue(notes.blocks[i], 'blocks'), `collections ${notes.collections[i].join(', ')}`);
    if (i === this.peak) {
      parts.push('the peak');
    }
    if (notes.snapshots[i]) {
      parts.push(notes.snapshots[i] === 1 ? 'a snapshot' : `${notes.snapshots[i]} snapshots`);
    }
    return parts.join(' — ');
  }

  /* The next note, in this direction, that is the peak or a snapshot. */
  nextMark(step) {
    for (let i = this.at + step; i >= 0 && i < this.count; i += step) {
      if (i === this.peak || this.notes.snapshots[i]) {
        return i;
      }
    }
    return this.at;
  }

  obey(event) {
    const far = Math.max(1, Math.round(this.count / 20));
    const goals = {
      ArrowLeft: () => this.at - (event.shiftKey ? far : 1),
      ArrowRight: () => this.at + (event.shiftKey ? far : 1),
      PageUp: () => this.nextMark(-1),
      PageDown: () => this.nextMark(1),
      Home: () => 0,
      End: () => this.count - 1,
    };
    if (Object.hasOwn(goals, event.key)) {
      event.preventDefault();
      this.moveTo(goals[event.key]());
    }
  }
}
