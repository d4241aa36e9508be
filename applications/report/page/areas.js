// Areas of interest as dtfsal's JSON has them, in fractions of the frame: where they are, and their share of a map.

const AREA_COLOURS = ["#e6194b", "#0a84c6", "#2f9e44", "#e8840c", "#9c36b5", "#0ca678", "#d6336c", "#7c6f00"];

function pointsOf(key) {
  if (key.points) return key.points;
  const [left, top, right, bottom] = key.box;
  return [[left, top], [right, bottom]];
}

// The points of an area at a time, or null while it is hidden.
function outlineAt(area, time) {
  const keys = area.keys;
  const last = keys.length - 1;
  if (time < keys[0].time_seconds) {
    return area.outside === "hold" && keys[0].visible ? pointsOf(keys[0]) : null;
  }
  let i = last;
  while (keys[i].time_seconds > time) i -= 1;
  if (!keys[i].visible) return null;
  if (i === last) return area.outside === "hold" || keys[i].time_seconds === time ? pointsOf(keys[i]) : null;
  const share = (time - keys[i].time_seconds) / (keys[i + 1].time_seconds - keys[i].time_seconds);
  const next = pointsOf(keys[i + 1]);
  return pointsOf(keys[i]).map(([x, y], j) => [x + share * (next[j][0] - x), y + share * (next[j][1] - y)]);
}

function isInside(shape, points, x, y) {
  const [[left, top], [right, bottom]] = points;
  if (shape === "box") return x >= left && x < right && y >= top && y < bottom;
  if (shape === "ellipse") {
    const across = (2 * x - left - right) / (right - left);
    const down = (2 * y - top - bottom) / (bottom - top);
    return across * across + down * down <= 1;
  }
  let inside = false;
  for (let i = 0, j = points.length - 1; i < points.length; j = i, i += 1) {
    const [ax, ay] = points[i];
    const [bx, by] = points[j];
    if (ay > y !== by > y && x < ax + ((y - ay) / (by - ay)) * (bx - ax)) inside = !inside;
  }
  return inside;
}

const FINE = 6; // points along each side of a cell that tell what share of it an ellipse or a polygon covers

function cellsBetween(low, high, count) {
  return [Math.max(0, Math.floor(low * count)), Math.min(count, Math.ceil(high * count))];
}

// The covered share of each cell: of boxes exactly.
function coverageOf(shape, points, rows, columns) {
  const covered = new Float32Array(rows * columns);
  const [[left, top], [right, bottom]] = points;
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [firstRow, endRow] = cellsBetween(Math.min(...ys), Math.max(...ys), rows);
  const [firstColumn, endColumn] = cellsBetween(Math.min(...xs), Math.max(...xs), columns);
  for (let row = firstRow; row < endRow; row += 1) {
    const height = Math.min(bottom * rows, row + 1) - Math.max(top * rows, row);
    for (let column = firstColumn; column < endColumn; column += 1) {
      const place = row * columns + column;
      if (shape === "box") {
        const width = Math.min(right * columns, column + 1) - Math.max(left * columns, column);
        covered[place] = Math.max(0, width) * Math.max(0, height);
      } else {
        let count = 0;
        for (let i = 0; i < FINE * FINE; i += 1) {
          const x = (column + ((i % FINE) + 0.5) / FINE) / columns;
          const y = (row + (Math.floor(i / FINE) + 0.5) / FINE) / rows;
          if (isInside(shape, points, x, y)) count += 1;
        }
        covered[place] = count / (FINE * FINE);
      }
    }
  }
  return covered;
}

function shareOf(map, covered) {
  let whole = 0;
  let inside = 0;
  for (let i = 0; i < map.length; i += 1) {
    whole += map[i];
    inside += map[i] * covered[i];
  }
  return whole > 0 ? inside / whole : 0;
}

// An area over all samples of a track: its share of the map, NaN where it is hidden, and of the picture.
function seriesOf(area, track) {
  const values = new Float32Array(track.length);
  const sizes = new Float32Array(track.length);
  let size = 0;
  let known = null;
  let covered = null;
  for (let sample = 0; sample < track.length; sample += 1) {
    const points = outlineAt(area, track.times[sample]);
    if (points === null) {
      values[sample] = NaN;
      continue;
    }
    const place = JSON.stringify(points);
    if (place !== known) {
      covered = coverageOf(area.shape, points, track.rows, track.columns);
      size = covered.reduce((sum, part) => sum + part, 0) / covered.length;
      known = place;
    }
    values[sample] = shareOf(track.map(sample), covered);
    sizes[sample] = size;
  }
  return { values, sizes };
}

// The figures of a drawn area, as Python has them for those of a file.
function summaryOf(area, { values, sizes }, track, level) {
  let weighted = 0;
  let visible = 0;
  let picture = 0;
  let peak = null;
  let first = null;
  for (let sample = 0; sample < track.length; sample += 1) {
    const share = values[sample];
    if (Number.isNaN(share)) continue;
    weighted += share * track.shown(sample);
    visible += track.shown(sample);
    picture += track.shown(sample) * sizes[sample];
    if (peak === null || share > values[peak]) peak = sample;
    if (first === null && share > level) first = track.times[sample];
  }
  return {
    name: area.name,
    share: track.seconds > 0 ? weighted / track.seconds : 0,
    share_while_visible: visible > 0 ? weighted / visible : null,
    share_of_picture: visible > 0 ? picture / visible : null,
    visible_seconds: visible,
    peak_share: peak === null ? null : values[peak],
    peak_seconds: peak === null ? null : track.times[peak],
    first_above_seconds: first,
    drawn: true,
  };
}

function areasDocument(areas) {
  const rounded = (value) => Math.round(value * 1e6) / 1e6;
  return {
    format: "dtfsal-areas",
    version: 1,
    coordinates: "fractions",
    areas: areas.map((area) => ({
      name: area.name,
      shape: area.shape,
      outside: area.outside,
      keys: area.keys.map((key) => ({
        time_seconds: rounded(key.time_seconds),
        ...(area.shape === "polygon"
          ? { points: key.points.map((point) => point.map(rounded)) }
          : { box: key.box.map(rounded) }),
        visible: key.visible,
      })),
    })),
  };
}
