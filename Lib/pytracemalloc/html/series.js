/* Several snapshots: what the largest groups had at each, as areas one on top
   of the other.  A cursor goes from snapshot to snapshot and from area to
   area.  An area and its name have a number: a dozen colours are too many to
   tell apart. */
'use strict';

const LEAST_NUMBERED = 0.09;

class Stack {
  constructor(series, svg, said, legend, labels) {
    this.series = series;
    this.svg = svg;
    this.said = said;
    this.legend = legend;
    this.numbers = labels.numbers;
    this.count = series.values[0].length;
    this.sums = series.values[0].map((_, i) => series.values.reduce((sum, values) => sum + Math.max(0, values[i]), 0));
    this.top = this.sums.reduce((top, value) => Math.max(top, value), 1);
    this.bands = series.names.length;
    labels.top.textContent = this.format(this.top);
    labels.end.textContent = this.hasTimes() ? formatSeconds(this.when(this.count - 1)) : `${this.count} snapshots`;
    this.draw();
    svg.setAttribute('aria-valuemin', 1);
    svg.setAttribute('aria-valuemax', this.count);
    this.moveTo(this.count - 1, 0, false);
    const follow = event => this.moveTo(...this.under(event));
    svg.addEventListener('pointermove', follow);
    svg.addEventListener('pointerdown', follow);
    svg.addEventListener('keydown', event => this.obey(event));
    svg.addEventListener('focus', () => this.moveTo(this.at, this.band));
  }

  format(value) {
    return formatValue(value, this.series.unit);
  }

  /* Without times, or if all are the same, snapshots lie at equal distances. */
  hasTimes() {
    const { time } = this.series;
    return time.every(value => value !== null) && time[this.count - 1] > time[0];
  }

  when(i) {
    return this.series.time[i] - this.series.time[0];
  }

  x(i) {
    const part = this.hasTimes() ? this.when(i) / this.when(this.count - 1) : i / (this.count - 1);
    return part * CURVE_WIDTH;
  }

  y(value) {
    return CURVE_HEIGHT - value / this.top * CURVE_HEIGHT;
  }

  color(band) {
    return band === this.series.more ? 'hsl(0 0% 62%)' : `hsl(${(band * 137 + 25) % 360} 62% ${[62, 80, 70][band % 3]}%)`;
  }

  draw() {
    const base = new Float64Array(this.count);
    this.svg.setAttribute('viewBox', `0 0 ${CURVE_WIDTH} ${CURVE_HEIGHT}`);
    const areas = this.series.values.map((values, band) => {
      const below = Array.from(base, (value, i) => `${this.x(i).toFixed(2)} ${this.y(value).toFixed(2)}`);
      values.forEach((value, i) => {
        base[i] += Math.max(0, value);
      });
      const above = Array.from(base, (value, i) => `${this.x(i).toFixed(2)} ${this.y(value).toFixed(2)}`);
      const area = svgPart('path', { class: 'band', d: `M${above.join('L')}L${below.reverse().join('L')}Z` });
      area.style.fill = this.color(band);
      return area;
    });
    this.cursor = svgPart('line', { class: 'cursor', y1: 0, y2: CURVE_HEIGHT });
    this.areas = areas;
    this.svg.replaceChildren(...areas, this.cursor);
    this.legend.replaceChildren(...this.series.names.map((name, band) => {
      const entry = document.createElement('span');
      const patch = document.createElement('i');
      patch.style.background = this.color(band);
      patch.textContent = band + 1;
      entry.append(patch, isolated(name));
      return entry;
    }));
    this.numberAreas();
  }

  /* Where an area is highest, if there is room. */
  numberAreas() {
    const base = new Float64Array(this.count);
    this.numbers.replaceChildren();
    this.series.values.forEach((values, band) => {
      const widest = values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
      if (values[widest] >= LEAST_NUMBERED * this.top) {
        const number = document.createElement('b');
        number.textContent = band + 1;
        number.style.left = `clamp(10px, ${this.x(widest) / CURVE_WIDTH * 100}%, 100% - 10px)`;
        number.style.top = this.y(base[widest] + values[widest] / 2) / CURVE_HEIGHT * 100 + '%';
        this.numbers.append(number);
      }
      values.forEach((value, i) => {
        base[i] += Math.max(0, value);
      });
    });
  }

  under(event) {
    const { left, top, width, height } = this.svg.getBoundingClientRect();
    const x = (event.clientX - left) / width * CURVE_WIDTH;
    let near = 0;
    for (let i = 1; i < this.count; i++) {
      if (Math.abs(this.x(i) - x) < Math.abs(this.x(near) - x)) {
        near = i;
      }
    }
    let left_ = (1 - (event.clientY - top) / height) * this.top;
    let band = 0;
    while (band + 1 < this.bands && left_ > Math.max(0, this.series.values[band][near])) {
      left_ -= Math.max(0, this.series.values[band][near]);
      band++;
    }
    return [near, band];
  }

  moveTo(i, band, show = true) {
    this.at = Math.max(0, Math.min(this.count - 1, i));
    this.band = Math.max(0, Math.min(this.bands - 1, band));
    this.svg.classList.toggle('pointed', show);
    this.areas.forEach((area, here) => area.classList.toggle('chosen', here === this.band));
    this.cursor.setAttribute('x1', this.x(this.at));
    this.cursor.setAttribute('x2', this.x(this.at));
    const [first, name, rest] = this.describe();
    this.said.replaceChildren(first, isolated(name), rest);
    this.svg.setAttribute('aria-valuenow', this.at + 1);
    this.svg.setAttribute('aria-valuetext', this.said.textContent);
  }

  describe() {
    const { values, names, time, unit } = this.series;
    const own = values[this.band];
    const value = own[this.at];
    const change = value - own[0];
    const clock = time[this.at] === null ? '' : `, ${new Date(time[this.at] * 1000).toLocaleTimeString('en-GB')}`;
    const share = formatShare(Math.max(0, value), Math.max(1, this.sums[this.at]));
    return [`snapshot ${this.at + 1} of ${this.count}${clock}, all ${this.format(this.sums[this.at])} — `, names[this.band],
      ` — ${this.format(value)}, ${share}, ${formatValue(change, unit, true)} since the first`];
  }

  obey(event) {
    const goals = {
      ArrowLeft: [this.at - 1, this.band], ArrowRight: [this.at + 1, this.band],
      ArrowUp: [this.at, this.band + 1], ArrowDown: [this.at, this.band - 1],
      Home: [0, this.band], End: [this.count - 1, this.band],
    };
    if (Object.hasOwn(goals, event.key)) {
      event.preventDefault();
      this.moveTo(...goals[event.key]);
    }
  }
}
