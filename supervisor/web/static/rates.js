// How fast messages are handled: from counters in successive status objects, over the last ten seconds.

const WINDOW_MS = 10_000;

/** Remembers samples of each pool; `of(pool, now)` is what was done per second lately. */
export class Rates {
  #samples = new Map();

  /** Take the counters of a status object that arrived at `now`. */
  add(status, now) {
    const pools = status.pools ?? {};
    for (const [name, pool] of Object.entries(pools)) {
      const samples = this.#samples.get(name) ?? [];
      const done = pool.counters?.done ?? 0;
      const restarted = samples.length > 0 && samples.at(-1).done > done; // a new consumer counts from zero
      const kept = restarted
        ? []
        : samples.filter((sample, index) => samples[index + 1]?.at > now - WINDOW_MS || index === samples.length - 1);
      this.#samples.set(name, [...kept, { at: now, done }]);
    }
    for (const name of this.#samples.keys()) if (!(name in pools)) this.#samples.delete(name);
  }

  /** Messages done per second; null before there are two samples. The server sends nothing while nothing changes. */
  of(name, now) {
    const samples = this.#samples.get(name) ?? [];
    if (samples.length < 2) return null;
    const seconds = (Math.max(now, samples.at(-1).at) - samples[0].at) / 1000;
    const done = samples.at(-1).done - samples[0].done;
    return samples.at(-1).at < now - WINDOW_MS ? 0 : done / Math.max(seconds, 0.5);
  }
}
