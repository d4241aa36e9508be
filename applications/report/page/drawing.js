// Areas drawn on the picture: chosen, moved, given keys. `state` and what shows it are in main.js.

function freeName(wish) {
  const taken = new Set(allAreas().map((area) => area.name));
  const base = wish.trim().replace(/[\p{C}]/gu, "").slice(0, 190) || "area";
  let name = base;
  for (let number = 2; taken.has(name); number += 1) name = `${base} ${number}`;
  return name;
}

function addArea(shape, place, name) {
  const area = {
    name: freeName(name || `area ${state.drawn.length + 1}`),
    shape,
    outside: "hold",
    keys: [{ time_seconds: 0, ...place, visible: true }],
  };
  state.drawn.push(area);
  chooseArea(area);
}

function chooseArea(area) {
  state.chosen = area;
  byId("selected").hidden = area === null;
  for (const player of players) player.picture.classList.toggle("moving", area !== null);
  if (area) {
    byId("rename").value = area.name;
    byId("keys").textContent =
      area.keys.length === 1
        ? "Stands still. Set a key at another time, then drag it, and it moves between the keys."
        : `Moves between ${area.keys.length} keys: ${area.keys.map((key) => seconds(key.time_seconds)).join(", ")}.`;
  }
  buildLanes();
}

function changed(area) {
  area.series = [];
  chooseArea(area);
}

// Put an area's key at the page's time there, or make it; an area that stands still has one key for all times.
function setKey(area, place, makesKey) {
  const known = area.keys.find((key) => Math.abs(key.time_seconds - state.time) < 1e-6);
  const key = known || (area.keys.length === 1 && !makesKey ? area.keys[0] : null);
  if (key) Object.assign(key, place);
  else {
    area.keys.push({ time_seconds: state.time, ...place, visible: true });
    area.keys.sort((one, other) => one.time_seconds - other.time_seconds);
  }
}

function placed(shape, points) {
  if (shape === "polygon") return { points };
  const [[ax, ay], [bx, by]] = points;
  return { box: [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)] };
}

function setTool(tool) {
  state.tool = state.tool === tool ? null : tool;
  state.corners = [];
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === state.tool));
  }
  for (const player of players) player.picture.classList.toggle("drawing", state.tool !== null);
  byId("hint").textContent =
    state.tool === null
      ? "Choose a shape, then drag over the picture. Drag a chosen area to move it."
      : state.tool === "polygon"
        ? "Click the corners; click the first one again or press Enter to close. Escape ends."
        : "Drag over the picture from corner to corner. Escape ends.";
  show();
}

function closePolygon() {
  if (state.tool === "polygon" && state.corners.length >= 3) {
    const corners = state.corners;
    setTool("polygon");
    addArea("polygon", { points: corners });
  }
}

function pointerDown(player, event) {
  const [x, y] = player.place(event, state.tool !== null);
  if (state.tool === "polygon") {
    const [firstX, firstY] = state.corners[0] || [9, 9];
    if (state.corners.length >= 3 && Math.hypot(x - firstX, y - firstY) < 0.03) closePolygon();
    else state.corners.push([x, y]);
    show();
    return;
  }
  const area = state.chosen;
  const points = area && outlineAt(area, state.time);
  if (state.tool) state.drag = { from: [x, y], to: [x, y] };
  else if (points && isInside(area.shape, points, x, y)) state.drag = { from: [x, y], moves: area, points };
  else {
    const under = state.drawn.findLast((other) => {
      const outline = outlineAt(other, state.time);
      return outline && isInside(other.shape, outline, x, y);
    });
    if (under) chooseArea(under);
    return;
  }
  player.picture.setPointerCapture(event.pointerId);
}

function pointerMove(player, event) {
  if (!state.drag) return;
  const [x, y] = player.place(event, state.tool !== null);
  if (state.drag.moves) {
    const [dx, dy] = [x - state.drag.from[0], y - state.drag.from[1]];
    const points = state.drag.points.map(([px, py]) => [px + dx, py + dy]);
    setKey(state.drag.moves, placed(state.drag.moves.shape, points), false);
  } else state.drag.to = [x, y];
  show();
}

function pointerUp() {
  const drag = state.drag;
  state.drag = null;
  if (!drag) return;
  if (drag.moves) changed(drag.moves);
  else if (Math.abs(drag.to[0] - drag.from[0]) > 0.005 && Math.abs(drag.to[1] - drag.from[1]) > 0.005) {
    const tool = state.tool;
    setTool(tool);
    addArea(tool, placed(tool, [drag.from, drag.to]));
  }
  show();
}
