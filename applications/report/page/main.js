// The page: what the controls do, and what is drawn when.

const byId = (id) => document.getElementById(id);
const state = { time: 0, playing: false, tool: null, corners: [], drag: null, chosen: null, drawn: [] };
const tracks = PAGE.tracks.map((description, number) => new Track(description, number));
const compares = tracks.length > 1;
const LETTERS = ["A", "B"];

// The sample of each clip at a time of the first one.
function samplesAt(time) {
  const first = tracks[0].at(time);
  if (!compares) return [first];
  return [first, PAGE.align === "time" ? tracks[1].at(time) : tracks[1].ofFrame(tracks[0].indices[first])];
}

// How long the page's time is: what both clips have.
function sharedSeconds() {
  if (!compares) return tracks[0].seconds;
  if (PAGE.align === "time") return Math.min(tracks[0].seconds, tracks[1].seconds);
  const frames = Math.min(tracks[0].frames, tracks[1].frames);
  const after = frames < tracks[0].frames ? tracks[0].times[tracks[0].ofFrame(frames)] : tracks[0].seconds;
  return Math.max(after, 1e-3);
}

const duration = sharedSeconds();
const players = tracks.map(
  (track, i) => new Player(track, compares ? `${LETTERS[i]}: ${track.name}` : "", LINE_COLOURS[i]),
);
let timeline = null;

// Areas

function colourOf(number) {
  return AREA_COLOURS[number % AREA_COLOURS.length];
}

// All areas by name: those of the files, then those drawn here.
function allAreas() {
  const areas = new Map();
  tracks.forEach((track, number) => {
    for (const area of track.areas) {
      if (!areas.has(area.name)) areas.set(area.name, { name: area.name, at: [null, null], drawn: false });
      areas.get(area.name).at[number] = area;
    }
  });
  for (const area of state.drawn) areas.set(area.name, { name: area.name, at: [area, area], drawn: true });
  return [...areas.values()].map((area, i) => ({ ...area, colour: colourOf(i) }));
}

function valuesOf(area, number) {
  const track = tracks[number];
  const known = track.series.findIndex((series) => series.kind === "area" && series.name === area.name);
  if (!area.drawn && known >= 0) {
    return {
      values: track.values[known],
      low: track.low && track.low[known],
      high: track.high && track.high[known],
    };
  }
  if (!area.drawn) return { values: new Float32Array(track.length).fill(NaN) };
  const drawn = area.at[number];
  if (!drawn.series) drawn.series = [];
  if (!drawn.series[number]) drawn.series[number] = seriesOf(drawn, track);
  return drawn.series[number];
}

// A series of the second clip on the first one's samples, less that of the first.
function difference(first, second) {
  return first.map((value, sample) => {
    const time = tracks[0].times[sample];
    return time > duration ? NaN : second[samplesAt(time)[1]] - value;
  });
}

// The times at which the samples of a clip stand on the page's line of time.
function pageTimes(number) {
  if (number === 0 || PAGE.align === "time") return tracks[number].times;
  return tracks[1].times.map((_, sample) => tracks[0].times[tracks[0].ofFrame(tracks[1].indices[sample])]);
}

function withinDuration(line) {
  let count = line.times.length;
  while (count > 1 && line.times[count - 1] > duration) count -= 1;
  const cut = (values) => values && values.subarray(0, count);
  return { times: cut(line.times), values: cut(line.values), low: cut(line.low), high: cut(line.high) };
}

function buildLanes() {
  timeline.clear();
  const times = tracks.map((_, number) => pageTimes(number));
  tracks[0].series.forEach((series, i) => {
    if (series.kind === "area") return;
    const lines = tracks.map((track, number) =>
      withinDuration({
        times: times[number],
        values: track.values[i],
        low: track.low && track.low[i],
        high: track.high && track.high[i],
      }),
    );
    const format = series.kind === "entropy" ? (value) => (Number.isNaN(value) ? "–" : `${value.toFixed(2)} bit`) : percent;
    timeline.add({ name: series.label, lines, format, floor: series.kind === "entropy" ? null : 0 });
  });
  for (const area of allAreas()) {
    const found = tracks.map((_, number) => valuesOf(area, number));
    const lines = found.map((line, number) => withinDuration({ times: times[number], ...line }));
    timeline.add({ name: area.name, colour: area.colour, lines, format: percent, floor: 0 });
    if (compares) {
      const values = difference(found[0].values, found[1].values);
      const format = (value) => (value > 0 ? `+${percent(value)}` : percent(value));
      const line = withinDuration({ times: times[0], values });
      timeline.add({ name: "B − A", of: area.name, colour: area.colour, lines: [line], format, floor: 0, signed: true });
    }
  }
  timeline.draw();
  buildTable();
  show();
}

function summary(area, number) {
  if (area.drawn) return summaryOf(area.at[number], valuesOf(area, number), tracks[number], PAGE.level);
  return tracks[number].summaries.find((known) => known.name === area.name) || null;
}

function buildTable() {
  const areas = allAreas();
  const figures = areas.map((area) => tracks.map((_, number) => summary(area, number)));
  const above = `First above ${+(100 * PAGE.level).toFixed(2)} %`;
  const heads = compares
    ? ["Rank in A", "Area", "A", "B", "B − A", `${above}: A`, `${above}: B`]
    : ["Rank", "Area", "Share of attention", "While visible", "Of the picture", "Visible", above, "Largest share", "at"];
  const shareOrNone = (found) => (found ? found.share : null);
  const rows = areas.map((area, i) => {
    const [first, second] = figures[i];
    const rank = first ? 1 + figures.filter(([other]) => other && other.share > first.share).length : "–";
    if (!compares) {
      return [
        rank, area, percent(first.share), percent(first.share_while_visible), percent(first.share_of_picture),
        `${first.visible_seconds.toFixed(2)} s`,
        seconds(first.first_above_seconds), percent(first.peak_share), seconds(first.peak_seconds),
      ];
    }
    const change = first && second ? second.share - first.share : NaN;
    return [
      rank, area, percent(shareOrNone(first)), percent(shareOrNone(second)), `${change > 0 ? "+" : ""}${percent(change)}`,
      seconds(first ? first.first_above_seconds : null), seconds(second ? second.first_above_seconds : null),
    ];
  });
  rows.sort((one, other) => (one[0] === "–" ? 1e9 : one[0]) - (other[0] === "–" ? 1e9 : other[0]));
  const head = document.createElement("tr");
  for (const text of heads) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  byId("table").replaceChildren(head, ...rows.map(tableRow));
  byId("table").hidden = areas.length === 0;
  byId("table-note").textContent = areas.length
    ? "Shares are means over the whole clip, weighted by time. Attention that is spread evenly gives an area the share of the " +
      "picture that it covers. " +
      (state.drawn.length
        ? `Those of areas drawn here (≈) come from the page's coarse maps of ${tracks[0].columns} x ${tracks[0].rows} ` +
          "cells; export the areas and run dtfsal with --areas for exact ones."
        : "")
    : "There are no areas yet. Draw one on the picture, or run dtfsal with --areas FILE.";
}

function tableRow(cells) {
  const row = document.createElement("tr");
  for (const content of cells) {
    const cell = document.createElement("td");
    if (typeof content === "object") {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = content.colour;
      cell.append(swatch);
      if (content.drawn) {
        const choose = document.createElement("button");
        choose.type = "button";
        choose.textContent = `≈ ${content.name}`;
        choose.addEventListener("click", () => chooseArea(content.at[0]));
        cell.append(choose);
        row.className = state.chosen === content.at[0] ? "chosen" : "";
      } else cell.append(content.name);
    } else cell.textContent = content;
    row.append(cell);
  }
  return row;
}

// Showing

let table = null;

function show() {
  const samples = samplesAt(state.time);
  const opacity = Number(byId("opacity").value) / 100;
  const threshold = Number(byId("threshold").value) / 100;
  const areas = byId("outlines").checked ? allAreas() : [];
  players.forEach((player, number) => {
    player.drawMap(samples[number], table, opacity, threshold);
    const time = number === 0 ? state.time : pageToOwn(number, samples[number]);
    const outlines = [];
    for (const { name, colour, at } of areas) {
      const points = at[number] && outlineAt(at[number], time);
      if (points) outlines.push({ shape: at[number].shape, points, colour, name, chosen: at[number] === state.chosen });
    }
    if (state.drag && !state.drag.moves) {
      const [[left, top, right, bottom]] = [placed("box", [state.drag.from, state.drag.to]).box];
      outlines.push({ shape: state.tool, points: [[left, top], [right, bottom]], colour: "#ffffff", name: "", chosen: true });
    }
    player.drawAreas(outlines, state.corners);
  });
  timeline.show(state.time, samples);
  const [sample] = samples;
  const track = tracks[0];
  const frame = track.indices[sample];
  byId("clock").textContent = `${seconds(state.time)} / ${seconds(duration)} · frame ${frame} of ${track.frames}`;
  timeline.ruler.track.setAttribute("aria-valuetext", `${state.time.toFixed(2)} seconds, frame ${frame}`);
}

// The time in the second clip that belongs to the page's.
function pageToOwn(number, sample) {
  return PAGE.align === "time" ? state.time : tracks[number].times[sample];
}

function speak() {
  const samples = samplesAt(state.time);
  const parts = [`Frame ${tracks[0].indices[samples[0]]}, ${state.time.toFixed(2)} seconds`];
  for (const lane of timeline.lanes) {
    const values = [...lane.value.children].map((value) => value.textContent);
    parts.push(`${lane.of ? `${lane.of}, ` : ""}${lane.name} ${values.join(" and ")}`);
  }
  byId("spoken").textContent = `${parts.slice(0, 12).join(", ")}.`;
}

function setVideos() {
  const samples = samplesAt(state.time);
  players.forEach((player, number) => {
    const time = number === 0 ? state.time : pageToOwn(number, samples[number]);
    // A little into the frame, so that rounding shows none before it.
    if (!player.broken) player.video.currentTime = time + 1e-3;
  });
}

function seek(time) {
  state.time = Math.min(Math.max(0, time), lastTime());
  state.began = { time: state.time, clock: performance.now() };
  setVideos();
  show();
  if (!state.playing) speak();
}

function lastTime() {
  return Math.max(0, Math.min(duration - 1e-6, tracks[0].seconds));
}

function step(count) {
  const sample = Math.min(tracks[0].length - 1, Math.max(0, tracks[0].at(state.time) + count));
  pause();
  seek(tracks[0].times[sample]);
}

function toCut(direction) {
  const cuts = [0, ...timeline.cuts.flat(), lastTime()].sort((one, other) => one - other);
  const target =
    direction > 0 ? cuts.find((cut) => cut > state.time + 1e-3) : cuts.findLast((cut) => cut < state.time - 1e-3);
  if (target !== undefined) seek(target);
}

function play() {
  if (state.time >= lastTime() - 0.05) seek(0);
  state.playing = true;
  state.began = { time: state.time, clock: performance.now() };
  byId("play").textContent = "Pause";
  byId("play").setAttribute("aria-pressed", "true");
  for (const player of players) {
    player.video.playbackRate = Number(byId("speed").value);
    player.video.muted = player !== players[0];
    if (!player.broken) player.video.play().catch(() => {});
  }
  requestAnimationFrame(tick);
}

function pause() {
  if (!state.playing) return;
  state.playing = false;
  byId("play").textContent = "Play";
  byId("play").setAttribute("aria-pressed", "false");
  for (const player of players) player.video.pause();
  speak();
}

function tick() {
  if (!state.playing) return;
  const first = players[0];
  const passed = ((performance.now() - state.began.clock) / 1000) * Number(byId("speed").value);
  state.time = first.broken ? state.began.time + passed : first.video.currentTime;
  if (state.time >= lastTime() || (!first.broken && first.video.ended)) {
    state.time = lastTime();
    pause();
  } else if (compares && !players[1].broken) {
    const wanted = pageToOwn(1, samplesAt(state.time)[1]);
    if (Math.abs(players[1].video.currentTime - wanted) > 0.2) players[1].video.currentTime = wanted;
  }
  show();
  requestAnimationFrame(tick);
}

// Controls

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function setColours() {
  table = colourTable(byId("colours").value);
  const context = byId("legend").getContext("2d");
  const picture = context.createImageData(256, 1);
  for (let level = 0; level < 256; level += 1) {
    picture.data.set(table.subarray(3 * level, 3 * level + 3), 4 * level);
    picture.data[4 * level + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

function wire() {
  for (const name of Object.keys(COLOUR_MAPS)) byId("colours").append(new Option(name, name, name === "inferno", name === "inferno"));
  const sliders = ["opacity", "threshold"];
  const label = () => sliders.forEach((id) => { byId(`${id}-value`).textContent = `${byId(id).value} %`; });
  for (const id of sliders) byId(id).addEventListener("input", () => { label(); show(); });
  label();
  byId("colours").addEventListener("change", () => { setColours(); show(); });
  byId("outlines").addEventListener("change", show);
  byId("play").addEventListener("click", () => (state.playing ? pause() : play()));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("previous-cut").addEventListener("click", () => toCut(-1));
  byId("next-cut").addEventListener("click", () => toCut(1));
  byId("speed").addEventListener("change", () => state.playing && play());
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => setTool(button.dataset.tool));
  }
  byId("numbers").addEventListener("submit", (event) => {
    event.preventDefault();
    const numbers = new FormData(event.target);
    const box = ["left", "top", "right", "bottom"].map((side) => Number(numbers.get(side)) / 100);
    if (box[0] < box[2] && box[1] < box[3]) addArea("box", { box }, numbers.get("name"));
    else byId("hint").textContent = "Give left < right and top < bottom.";
  });
  byId("rename").addEventListener("change", (event) => {
    if (event.target.value.trim() !== state.chosen.name) state.chosen.name = freeName(event.target.value);
    chooseArea(state.chosen);
  });
  byId("key").addEventListener("click", () => {
    const points = outlineAt(state.chosen, state.time);
    setKey(state.chosen, placed(state.chosen.shape, points), true);
    changed(state.chosen);
  });
  byId("delete").addEventListener("click", () => {
    state.drawn = state.drawn.filter((area) => area !== state.chosen);
    chooseArea(null);
  });
  byId("export").addEventListener("click", () => {
    download("areas.json", `${JSON.stringify(areasDocument([...tracks[0].areas, ...state.drawn]), null, 2)}\n`);
  });
  for (const player of players) {
    player.picture.addEventListener("pointerdown", (event) => pointerDown(player, event));
    player.picture.addEventListener("pointermove", (event) => pointerMove(player, event));
    player.picture.addEventListener("pointerup", pointerUp);
    player.picture.addEventListener("pointercancel", pointerUp);
  }
  document.addEventListener("keydown", keyDown);
  window.addEventListener("resize", show);
}

function keyDown(event) {
  if (event.key === "Escape" && state.tool) setTool(state.tool);
  const inForm = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  const onButton = event.target.closest("button, summary");
  if (inForm || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" && !onButton) closePolygon();
  const actions = {
    ArrowLeft: () => (event.shiftKey ? seek(state.time - 1) : step(-1)),
    ArrowRight: () => (event.shiftKey ? seek(state.time + 1) : step(1)),
    Home: () => seek(0),
    End: () => seek(tracks[0].times[tracks[0].at(lastTime())]),
    "[": () => toCut(-1),
    "]": () => toCut(1),
    " ": () => (state.playing ? pause() : play()),
  };
  if (!(event.key in actions) || (event.key === " " && onButton)) return;
  event.preventDefault();
  actions[event.key]();
}

function tell() {
  byId("facts").textContent = PAGE.facts;
  byId("band-note").textContent = PAGE.band_note ? ` ${PAGE.band_note}` : "";
  for (const [term, meaning] of PAGE.terms) {
    const name = document.createElement("dt");
    name.textContent = term;
    const text = document.createElement("dd");
    text.textContent = meaning;
    byId("terms").append(name, text);
  }
  tracks.forEach((track, number) => {
    for (const note of track.notes) {
      const item = document.createElement("li");
      item.textContent = compares ? `${LETTERS[number]}: ${note}` : note;
      byId("notes").append(item);
    }
  });
  for (const id of ["previous-cut", "next-cut"]) byId(id).hidden = !tracks.some((track) => track.cuts && track.cuts.length);
}

async function start() {
  tell();
  await Promise.all(tracks.map((track) => track.unpack()));
  byId("players").append(...players.map((player) => player.figure));
  timeline = new Timeline(byId("timeline"), duration, (time) => { pause(); seek(time); });
  timeline.cuts = tracks.map((track, number) =>
    (track.cuts || [])
      .map((cut) => (number && PAGE.align === "frames" ? tracks[0].times[tracks[0].ofFrame(track.indices[track.at(cut)])] : cut))
      .filter((cut) => cut <= duration),
  );
  wire();
  setColours();
  buildLanes();
  seek(0);
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  byId("facts").textContent = `This page cannot be shown: ${error.message}. It needs a browser of 2023 or later.`;
});
