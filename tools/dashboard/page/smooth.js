// The smoothed curve of a chart, number for number as tools/core/smoothing.py computes it.

export const SMOOTHINGS = [0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]; // widths

// The weighted mean of about `width` logged values around each of `values`; `counts` says how many
// logged values each is the mean of. Near the start the window is as wide to the right as there
// are values to the left. A value that is not finite has no weight and no mean.
export function smooth(values, width, counts = null) {
  const known = [];
  for (let i = 0; i < values.length; i += 1) if (Number.isFinite(values[i])) known.push(i);
  const weights = Float64Array.from(known, (i) => (counts ? counts[i] : 1));
  let means = Float64Array.from(known, (i) => values[i]);
  const windows = windowsOf(weights, width / 4);
  const totals = sumsOf(weights, windows);
  for (let pass = 0; pass < 2; pass += 1) {
    // twice, so that a spike becomes a hill and not a plateau
    const sums = sumsOf(
      means.map((mean, k) => mean * weights[k]),
      windows,
    );
    means = sums.map((sum, k) => sum / totals[k]);
  }
  const smoothed = new Float64Array(values.length).fill(NaN);
  known.forEach((i, k) => {
    smoothed[i] = means[k];
  });
  return smoothed;
}

// From where to where the values lie whose middle is at most `most` from the middle of each.
function windowsOf(weights, most) {
  let total = 0;
  const middles = weights.map((weight) => {
    total += weight;
    return total - weight / 2;
  });
  let begin = 0;
  let end = 0;
  return Array.from(middles, (middle) => {
    const half = Math.min(most, middle);
    while (middles[begin] < middle - half) begin += 1;
    while (end < middles.length && middles[end] <= middle + half) end += 1;
    return [begin, end];
  });
}

// The sum of the values in each window, of pieces whose lengths are powers of two: differences of
// running sums would be faster, but lose all digits after one huge value.
function sumsOf(values, windows) {
  const sums = new Float64Array(windows.length);
  const at = windows.map(([begin]) => begin);
  const longest = windows.reduce((most, [begin, end]) => Math.max(most, end - begin), 0);
  let pieces = values;
  for (let length = 1; length <= longest; length *= 2) {
    windows.forEach(([begin, end], k) => {
      if (((end - begin) & length) === 0) return;
      sums[k] += pieces[at[k]];
      at[k] += length;
    });
    const shorter = pieces.subarray(0, Math.max(0, pieces.length - length));
    pieces = shorter.map((piece, i) => piece + pieces[i + length]);
  }
  return sums;
}
