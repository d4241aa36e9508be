// Lanes over one line of time: a ruler with the cuts, and a lane for each series.

const LINE_COLOURS = ["#3b78e7", "#e8590c"];

class Timeline {
  constructor(root, duration, onSeek) {
    this.root = root;
    this.duration = Math.max(duration, 1e-6);
    this.lanes = [];
    this.onSeek = onSeek;
    this.ruler = this.row("Time", "ruler");
    this.ruler.track.id = "ruler";
    this.ruler.track.tabIndex = 0;
    this.ruler.track.setAttribute("role", "slider");
    this.ruler.track.setAttribute("aria-label", "Time in the clip");
    this.ruler.track.setAttribute("aria-valuemin", "0");
    this.ruler.track.setAttribute("aria-valuemax", this.duration.toFixed(3));
    new ResizeObserver(() => this.draw()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  row(name) {
    const row = document.createElement("div");
    row.className = "lane";
    const label = document.createElement("span");
    label.className = "name";
    label.textContent = name;
    label.title = name;
    const track = document.createElement("div");
    track.className = "track";
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    const head = document.createElement("div");
    head.className = "head";
    track.append(canvas, head);
    const value = document.createElement("output");
    value.className = "value";
    row.append(label, track, value);
    this.root.append(row);
    const seek = (event) => {
      const box = track.getBoundingClientRect();
      this.onSeek(this.duration * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    track.addEventListener("pointerdown", (event) => {
      track.setPointerCapture(event.pointerId);
      seek(event);
    });
    track.addEventListener("pointermove", (event) => {
      if (track.hasPointerCapture(event.pointerId)) seek(event);
    });
    return { row, track, canvas, head, value, label };
  }

  // A lane: {name, colour, lines: [{times, values, low, high}], format, floor, signed}.
  add(lane) {
    const parts = this.row(lane.name);
    if (lane.colour) {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = lane.colour;
      parts.label.prepend(swatch);
    }
    this.lanes.push({ ...lane, ...parts });
  }

  clear() {
    for (const lane of this.lanes) lane.row.remove();
    this.lanes = [];
  }

  draw() {
    this.drawRuler();
    for (const lane of this.lanes) this.drawLane(lane);
  }

  begin(canvas) {
    const scale = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    canvas.width = width;
    canvas.height = height;
    return [canvas.getContext("2d"), width, height, scale];
  }

  drawRuler() {
    const [context, width, height, scale] = this.begin(this.ruler.canvas);
    const ink = getComputedStyle(this.root).color;
    context.font = `${11 * scale}px system-ui, sans-serif`;
    const rough = (this.duration * 90 * scale) / width;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    const step = steps.find((candidate) => candidate >= rough) || 7200;
    for (let time = 0; time <= this.duration; time += step) {
      const x = (time / this.duration) * width;
      context.fillStyle = ink;
      context.fillRect(x, height - 6 * scale, scale, 6 * scale);
      if (x + 40 * scale < width) context.fillText(seconds(time).replace(/\.00$/, ""), x + 3 * scale, height - 4 * scale);
    }
    (this.cuts || []).forEach((times, number) => {
      context.fillStyle = LINE_COLOURS[number];
      for (const time of times) {
        const x = (time / this.duration) * width;
        context.beginPath();
        context.moveTo(x - 4 * scale, 0);
        context.lineTo(x + 4 * scale, 0);
        context.lineTo(x, 8 * scale);
        context.fill();
        context.fillRect(x - scale / 2, 0, scale, height);
      }
    });
  }

  drawLane(lane) {
    const [context, width, height, scale] = this.begin(lane.canvas);
    let [low, high] = [lane.signed ? 0 : lane.floor, 0];
    for (const { values, high: most } of lane.lines) {
      for (const line of most ? [values, most] : [values]) {
        for (const value of line) {
          if (value > high) high = value;
          if (value < low) low = value;
        }
      }
    }
    if (lane.floor === null) {
      low = Infinity;
      for (const { values, low: least } of lane.lines) {
        for (const value of least || values) if (value < low) low = value;
      }
    }
    if (lane.signed) low = -(high = Math.max(high, -low));
    if (!(high > low)) high = low + 1e-6;
    const y = (value) => height - 3 * scale - ((value - low) / (high - low)) * (height - 6 * scale);
    if (lane.signed) {
      context.fillStyle = "#8888";
      context.fillRect(0, y(0), width, scale);
    }
    (this.cuts || []).forEach((times, number) => {
      context.fillStyle = `${LINE_COLOURS[number]}55`;
      for (const time of times) context.fillRect((time / this.duration) * width, 0, scale, height);
    });
    lane.lines.forEach((line, number) => {
      const colour = lane.colour && lane.lines.length === 1 ? lane.colour : LINE_COLOURS[number];
      if (line.low) this.drawBand(context, line, colour, width, y);
      this.drawLine(context, line, colour, width, y, lane.signed ? y(0) : null, scale);
    });
    lane.label.title = `${lane.name}: ${lane.format(low)} to ${lane.format(high)}`;
  }

  // Least and most in each column of pixels, so that long films lose no peak.
  columns(times, values, width) {
    const columns = new Map();
    for (let i = 0; i < times.length; i += 1) {
      if (Number.isNaN(values[i])) continue;
      const x = Math.round((times[i] / this.duration) * width);
      const known = columns.get(x);
      if (!known) columns.set(x, [values[i], values[i], i]);
      else if (values[i] < known[0]) known[0] = values[i];
      else if (values[i] > known[1]) known[1] = values[i];
    }
    return columns;
  }

  drawLine(context, { times, values }, colour, width, y, zero, scale) {
    context.strokeStyle = colour;
    context.fillStyle = `${colour}66`;
    context.lineWidth = 1.5 * scale;
    context.beginPath();
    let before = null;
    for (const [x, [least, most, i]] of this.columns(times, values, width)) {
      // A gap where the area was hidden.
      if (before === null || Number.isNaN(values[Math.max(0, i - 1)])) context.moveTo(x, y(most));
      else context.lineTo(x, y(most));
      if (least !== most) context.lineTo(x, y(least));
      if (zero !== null) context.fillRect(before ?? x, zero, Math.max(1, x - (before ?? x)), y(most) - zero);
      before = x;
    }
    context.stroke();
  }

  drawBand(context, { times, low, high }, colour, width, y) {
    context.fillStyle = `${colour}38`;
    const lows = this.columns(times, low, width);
    let part = [];
    const fill = () => {
      context.beginPath();
      part.forEach(([x, , most], i) => (i ? context.lineTo(x, y(most)) : context.moveTo(x, y(most))));
      for (const [x, least] of part.toReversed()) context.lineTo(x, y(least));
      context.fill();
      part = [];
    };
    for (const [x, [, most, i]] of this.columns(times, high, width)) {
      if (part.length && Number.isNaN(high[Math.max(0, i - 1)])) fill();
      const [least] = lows.get(x) || [most];
      part.push([x, least, most]);
    }
    fill();
  }

  // Move the line that marks the time, and show each lane's value there. `samples` is a sample of each track.
  show(time, samples) {
    const left = `${Math.min(100, (100 * time) / this.duration)}%`;
    this.ruler.head.style.left = left;
    this.ruler.track.setAttribute("aria-valuenow", time.toFixed(3));
    for (const lane of this.lanes) {
      lane.head.style.left = left;
      const parts = lane.lines.map((line, number) => {
        const sample = samples[lane.lines.length === 1 ? 0 : number];
        const part = document.createElement("span");
        part.textContent = lane.format(line.values[sample] ?? NaN);
        if (lane.lines.length > 1) part.style.color = LINE_COLOURS[number];
        return part;
      });
      lane.value.replaceChildren(...parts);
    }
  }
}
