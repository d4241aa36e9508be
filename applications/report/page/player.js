// A clip with its map and its areas on top.

class Player {
  constructor(track, label, colour) {
    this.track = track;
    this.figure = document.createElement("figure");
    if (label) {
      const caption = document.createElement("figcaption");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = colour;
      caption.append(swatch, label);
      this.figure.append(caption);
    }
    this.picture = document.createElement("div");
    this.picture.className = "picture";
    const [height, width] = track.size;
    this.picture.style.aspectRatio = `${width} / ${height}`;
    this.picture.style.maxWidth = `calc(66vh * ${width} / ${height})`;
    this.video = document.createElement("video");
    this.video.playsInline = true;
    this.video.preload = "auto";
    this.video.setAttribute("aria-label", `The clip ${track.name}`);
    this.heat = this.layer(track.columns, track.rows);
    this.heat.setAttribute("role", "img");
    this.drawn = this.layer(width, height);
    this.drawn.setAttribute("aria-hidden", "true");
    this.picture.append(this.video, this.heat, this.drawn);
    this.figure.append(this.picture);
    this.broken = false;
    this.video.addEventListener("error", () => this.giveUp());
    this.video.src = track.video === null ? this.embedded() : track.video;
    this.shown = null;
  }

  embedded() {
    return URL.createObjectURL(new Blob([packedBytes(`video-${this.track.number}`)], { type: "video/mp4" }));
  }

  giveUp() {
    if (this.broken) return;
    this.broken = true;
    const told = document.createElement("p");
    told.className = "broken";
    told.textContent = "This browser cannot play the clip. Maps and figures work all the same.";
    this.picture.append(told);
  }

  layer(width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    return canvas;
  }

  // Draw the map of a sample: colours from a table, none below the threshold, more where the map is larger.
  drawMap(sample, table, opacity, threshold) {
    const { rows, columns } = this.track;
    const context = this.heat.getContext("2d");
    const picture = context.createImageData(columns, rows);
    const map = this.track.map(sample);
    for (let i = 0; i < map.length; i += 1) {
      const level = map[i];
      picture.data.set(table.subarray(3 * level, 3 * level + 3), 4 * i);
      const above = level / 255 - threshold;
      picture.data[4 * i + 3] = above <= 0 ? 0 : 255 * opacity * Math.min(1, 0.35 + (0.65 * above) / (1 - threshold));
    }
    context.putImageData(picture, 0, 0);
    const [column, row] = this.peak(map);
    this.heat.setAttribute(
      "aria-label",
      `Predicted attention, largest ${Math.round((100 * (column + 0.5)) / columns)} % from the left and ` +
        `${Math.round((100 * (row + 0.5)) / rows)} % from the top`,
    );
    this.shown = sample;
  }

  peak(map) {
    let largest = 0;
    for (let i = 1; i < map.length; i += 1) if (map[i] > map[largest]) largest = i;
    return [largest % this.track.columns, Math.floor(largest / this.track.columns)];
  }

  // Draw outlines: [{shape, points, colour, name, chosen}], and corners that wait for the rest of a polygon.
  drawAreas(outlines, corners) {
    const scale = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(this.picture.clientWidth * scale));
    const height = Math.max(1, Math.round(this.picture.clientHeight * scale));
    if (this.drawn.width !== width || this.drawn.height !== height) {
      this.drawn.width = width;
      this.drawn.height = height;
    }
    const context = this.drawn.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.font = `${13 * scale}px system-ui, sans-serif`;
    const labels = [];
    for (const { shape, points, colour, name, chosen } of outlines) {
      const places = points.map(([x, y]) => [x * width, y * height]);
      context.beginPath();
      if (shape === "polygon") {
        places.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
        context.closePath();
      } else {
        const [[left, top], [right, bottom]] = places;
        if (shape === "box") context.rect(left, top, right - left, bottom - top);
        else {
          const [across, down] = [Math.abs(right - left) / 2, Math.abs(bottom - top) / 2];
          context.ellipse((left + right) / 2, (top + bottom) / 2, across, down, 0, 0, 2 * Math.PI);
        }
      }
      context.lineWidth = (chosen ? 5 : 4) * scale;
      context.strokeStyle = "#000a";
      context.stroke();
      context.lineWidth = (chosen ? 3 : 2) * scale;
      context.strokeStyle = colour;
      context.setLineDash(chosen ? [8 * scale, 4 * scale] : []);
      context.stroke();
      context.setLineDash([]);
      const shownName = name.length > 40 ? `${name.slice(0, 38)}…` : name;
      const room = context.measureText(shownName).width + 8 * scale;
      const left = Math.min(Math.max(0, Math.min(...places.map(([x]) => x))), width - room);
      let top = Math.max(0, Math.min(...places.map(([, y]) => y)) - 18 * scale);
      // Below those that are there already, so that each can be read.
      const hidden = (other) => Math.abs(other.top - top) < 17 * scale && other.left < left + room && left < other.right;
      while (labels.some(hidden) && top < height - 17 * scale) top += 17 * scale;
      labels.push({ left, right: left + room, top });
      context.fillStyle = colour;
      context.fillRect(left, top, room, 17 * scale);
      context.fillStyle = "#fff";
      context.fillText(shownName, left + 4 * scale, top + 13 * scale);
    }
    context.strokeStyle = context.fillStyle = "#fff";
    context.lineWidth = 2 * scale;
    context.beginPath();
    corners.forEach(([x, y], i) => {
      if (i) context.lineTo(x * width, y * height);
      else context.moveTo(x * width, y * height);
    });
    context.stroke();
    for (const [x, y] of corners) context.fillRect(x * width - 3 * scale, y * height - 3 * scale, 6 * scale, 6 * scale);
  }

  // Where a pointer is, in fractions of the frame. What is drawn stays within it, and meets an edge that is near.
  place(event, drawing) {
    const box = this.picture.getBoundingClientRect();
    const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (!drawing) return place;
    return place.map((part) => (part < 0.012 ? 0 : part > 0.988 ? 1 : part));
  }
}
