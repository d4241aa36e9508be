// What Python packed into the page: numbers as base64, maps compressed, and figures as JSON.

const PAGE = JSON.parse(document.getElementById("page-data").textContent);

function packedBytes(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One clip: `times` and `indices` of its samples, a Float32Array for each series, and a map for each sample.
class Track {
  constructor(description, number) {
    Object.assign(this, description);
    this.number = number;
    this.times = new Float64Array(packedBytes(`times-${number}`).buffer);
    this.indices = new Int32Array(packedBytes(`indices-${number}`).buffer);
    this.length = this.times.length;
    const rows = (id) => {
      const values = new Float32Array(packedBytes(id).buffer);
      return this.series.map((_, i) => values.subarray(i * this.length, (i + 1) * this.length));
    };
    this.values = rows(`series-${number}`);
    this.low = this.banded ? rows(`low-${number}`) : null;
    this.high = this.banded ? rows(`high-${number}`) : null;
    this.maps = null;
  }

  async unpack() {
    this.maps = await inflated(packedBytes(`maps-${this.number}`));
  }

  // The sample that is shown at a time: the last one that begins before it.
  at(time) {
    let low = 0;
    let high = this.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle] <= time + 1e-6) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // The sample that a frame belongs to.
  ofFrame(index) {
    let sample = Math.min(this.length - 1, Math.floor(index / this.step));
    while (sample > 0 && this.indices[sample] > index) sample -= 1;
    return sample;
  }

  map(sample) {
    const size = this.rows * this.columns;
    return this.maps.subarray(sample * size, (sample + 1) * size);
  }

  // How long a sample is shown, in seconds.
  shown(sample) {
    const end = sample + 1 < this.length ? this.times[sample + 1] : this.seconds;
    return Math.max(0, end - this.times[sample]);
  }
}

function percent(share) {
  return share === null || Number.isNaN(share) ? "–" : `${(100 * share).toFixed(1)} %`;
}

function seconds(time) {
  if (time === null || Number.isNaN(time)) return "–";
  const whole = Math.floor(time / 60);
  const rest = (time - 60 * whole).toFixed(2).padStart(5, "0");
  return `${whole}:${rest}`;
}
